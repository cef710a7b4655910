//! Takes the DWARF out of an object and leaves its BTF, which the kernel reads.
//!
//! Done here and not with llvm-strip, so that the bytes don't depend on one more tool.

use anyhow::Context as _;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The object without its `.debug_*` sections and what refers to them.
///
/// # Errors
///
/// When `object` is no ELF file.
pub(super) fn debug_info(object: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the linker's output is no ELF file")?;
    for section in builder.sections.iter_mut() {
        let name = section.name.as_slice();
        if name.starts_with(b".debug_") || name.starts_with(b".rel.debug_") {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // LLVM keeps the sections' names in .strtab; the writer wants them in a table of their own.
    if !builder
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString))
    {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("can't write the stripped object")?;
    Ok(stripped)
}
