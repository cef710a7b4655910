//! Two builds of the eBPF objects side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind};

use crate::fingerprint::{MANIFEST, Manifest, OBJECTS, digest};

/// Compares manifest and objects of two folders; returns what was found equal, in words.
///
/// The same toolchain gives the same bytes, so then bytes are compared. Another toolchain emits other instructions;
/// then the objects must offer the same programs, maps and globals.
///
/// # Errors
///
/// When they differ, or when `checked_in`'s manifest does not describe its own objects.
pub(super) fn folders(checked_in: &Path, built: &Path) -> anyhow::Result<Vec<String>> {
    let old = manifest(checked_in)?;
    let new = manifest(built)?;
    if old.sources != new.sources {
        bail!("they are older than their sources: run `cargo xtask ebpf`");
    }
    if (old.contract, &old.arch) != (new.contract, &new.arch) {
        bail!("their contract or architecture differs: run `cargo xtask ebpf`");
    }
    let mut report = Vec::new();
    for (name, _) in OBJECTS {
        let was = read(&checked_in.join(name))?;
        let is = read(&built.join(name))?;
        if old.objects.get(name) != Some(&digest(&was)) {
            bail!("{name} is not the object that its {MANIFEST} describes");
        }
        if was == is {
            report.push(format!("{name}: rebuilt, every byte the same"));
        } else if old.toolchain == new.toolchain {
            bail!("{name}: the same sources and toolchain gave other bytes");
        } else {
            report.push(other_toolchain(name, &was, &is)?);
        }
    }
    if old.toolchain != new.toolchain {
        report.push(format!(
            "the toolchains differ: {} with LLVM {}, and here {} with LLVM {}",
            old.toolchain.rustc, old.toolchain.llvm, new.toolchain.rustc, new.toolchain.llvm
        ));
    }
    Ok(report)
}

fn other_toolchain(name: &str, was: &[u8], is: &[u8]) -> anyhow::Result<String> {
    let (was, is) = (Outline::read(was)?, Outline::read(is)?);
    if was.names != is.names {
        let only_old: Vec<_> = was.names.difference(&is.names).cloned().collect();
        let only_new: Vec<_> = is.names.difference(&was.names).cloned().collect();
        bail!("{name}: programs, maps or globals differ: only checked in: {only_old:?}; only rebuilt: {only_new:?}");
    }
    let same = was
        .code
        .iter()
        .filter(|(section, code)| is.code.get(*section) == Some(code))
        .count();
    Ok(format!(
        "{name}: the same {} programs, maps and globals; {same} of {} program sections have the same instructions",
        was.names.len(),
        was.code.len()
    ))
}

/// What an object offers to its loader.
struct Outline {
    /// Section and name of each global symbol, with its size if it is data.
    names: BTreeSet<String>,
    /// Digest of the instructions, by section.
    code: BTreeMap<String, String>,
}

impl Outline {
    fn read(bytes: &[u8]) -> anyhow::Result<Outline> {
        let file = object::File::parse(bytes).context("no ELF file")?;
        let mut outline = Outline {
            names: BTreeSet::new(),
            code: BTreeMap::new(),
        };
        for section in file.sections() {
            let name = section.name().context("a section without a name")?;
            let executable = section.kind() == SectionKind::Text;
            if executable {
                let code = section.data().with_context(|| format!("section {name}"))?;
                outline.code.insert(name.to_owned(), digest(code));
            }
            // Functions that programs share are the compiler's business: which of them it inlines may change.
            if name == ".text" {
                continue;
            }
            for symbol in file
                .symbols()
                .filter(|symbol| symbol.is_global() && symbol.section_index() == Some(section.index()))
            {
                let size = if executable { 0 } else { symbol.size() };
                let symbol = symbol.name().context("a symbol without a name")?;
                outline.names.insert(format!("{name} {symbol} {size}"));
            }
        }
        Ok(outline)
    }
}

fn manifest(folder: &Path) -> anyhow::Result<Manifest> {
    let path = folder.join(MANIFEST);
    serde_json::from_slice(&read(&path)?).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Toolchain;

    /// A folder with objects of that content (the first one), described by its manifest.
    fn folder(object: &[u8], rustc: &str, sources: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut objects = BTreeMap::new();
        for (name, _) in OBJECTS {
            fs::write(folder.path().join(name), object).unwrap();
            objects.insert(name.to_owned(), digest(object));
        }
        let manifest = Manifest {
            contract: 1,
            arch: "x86_64".to_owned(),
            sources: sources.to_owned(),
            toolchain: Toolchain {
                source: "debian".to_owned(),
                rustc: rustc.to_owned(),
                cargo: String::new(),
                llvm: String::new(),
                bpf_linker: String::new(),
            },
            objects,
        };
        fs::write(folder.path().join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
        folder
    }

    /// A BPF object with one program and one global.
    fn object(program: &str, code: [u8; 8]) -> Vec<u8> {
        use object::write::{Object, StandardSection, Symbol, SymbolSection};
        use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let section = object.add_section(Vec::new(), b"tp_btf/sched_switch".to_vec(), SectionKind::Text);
        let globals = object.section_id(StandardSection::ReadOnlyData);
        for (name, section, content) in [(program, section, &code[..]), ("CONTRACT", globals, &[1, 0, 0, 0])] {
            let symbol = object.add_symbol(Symbol {
                name: name.as_bytes().to_vec(),
                value: 0,
                size: 0,
                kind: SymbolKind::Data,
                scope: SymbolScope::Dynamic,
                weak: false,
                section: SymbolSection::Undefined,
                flags: SymbolFlags::None,
            });
            object.add_symbol_data(symbol, section, content, 8);
        }
        object.write().unwrap()
    }

    fn compared(old: &tempfile::TempDir, new: &tempfile::TempDir) -> Result<String, String> {
        match folders(old.path(), new.path()) {
            Ok(report) => Ok(report.join("\n")),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    /// Make sure that equal bytes pass, and other bytes of the same toolchain never do.
    #[test]
    fn one_toolchain_compares_bytes() {
        let old = folder(&object("switch", [1; 8]), "rustc 1", "a");
        assert!(
            compared(&old, &folder(&object("switch", [1; 8]), "rustc 1", "a"))
                .unwrap()
                .contains("every byte")
        );
        let error = compared(&old, &folder(&object("switch", [2; 8]), "rustc 1", "a")).unwrap_err();
        assert!(error.contains("gave other bytes"), "{error}");
    }

    /// Make sure that another toolchain's other instructions pass with a note, and another program never does.
    #[test]
    fn other_toolchain_compares_what_is_offered() {
        let old = folder(&object("switch", [1; 8]), "rustc 1", "a");
        let report = compared(&old, &folder(&object("switch", [2; 8]), "rustc 2", "a")).unwrap();
        assert!(
            report.contains("the same 2 programs, maps and globals; 0 of 1"),
            "{report}"
        );
        assert!(report.contains("the toolchains differ"), "{report}");
        let error = compared(&old, &folder(&object("waking", [1; 8]), "rustc 2", "a")).unwrap_err();
        assert!(error.contains("tp_btf/sched_switch waking"), "{error}");
    }

    /// Make sure that stale and tampered objects are refused, even when the rebuilt ones equal them.
    #[test]
    fn stale_and_tampered_are_refused() {
        let new = folder(&object("switch", [1; 8]), "rustc 1", "b");
        let error = compared(&folder(&object("switch", [1; 8]), "rustc 1", "a"), &new).unwrap_err();
        assert!(error.contains("older than their sources"), "{error}");
        let old = folder(&object("switch", [1; 8]), "rustc 1", "b");
        fs::write(old.path().join(OBJECTS[1].0), b"other").unwrap();
        let error = compared(&old, &new).unwrap_err();
        assert!(error.contains(OBJECTS[1].0), "{error}");
    }
}
