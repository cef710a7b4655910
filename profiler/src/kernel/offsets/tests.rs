use super::*;

/// A BTF file: `Documentation/bpf/btf.rst`.
#[derive(Default)]
struct File {
    types: Vec<u32>,
    strings: Vec<u8>,
}

impl File {
    const INT: u32 = 1;
    const STRUCT: u32 = 4;
    const FORWARD: u32 = 7;
    const FUNCTION: u32 = 12;
    const PROTOTYPE: u32 = 13;

    fn name(&mut self, name: &str) -> u32 {
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        1 + (self.strings.len() - name.len() - 1) as u32
    }

    fn add(&mut self, kind: u32, name: &str, count: u32, size_or_type: u32, rest: &[u32]) {
        let name = self.name(name);
        self.types.extend([name, kind << 24 | count, size_or_type]);
        self.types.extend(rest);
    }

    fn read(self) -> Types {
        let types: Vec<u8> = self.types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len(), types.len(), 1 + self.strings.len()] {
            bytes.extend((word as u32).to_le_bytes());
        }
        bytes.extend(types);
        bytes.push(0);
        bytes.extend(self.strings);
        Types::new(TypeInformation::new(&Bytes(bytes)).unwrap())
    }
}

const fn member(names: &'static [(&'static str, &'static str)], bytes: u32) -> Member {
    Member {
        names,
        bytes,
        lost: "",
        set: |_, _| {},
    }
}

/// Make sure that a member is found by any of its names, and not where it is smaller than what is read; and that neither a
/// forward declaration nor a function of the same name hides a struct.
#[test]
fn members_by_name_and_size() {
    let mut file = File::default();
    file.add(File::INT, "int", 0, 4, &[32]);
    file.add(File::INT, "char", 0, 1, &[8]);
    let (state, on_cpu) = (file.name("__state"), file.name("on_cpu"));
    file.add(File::STRUCT, "task", 2, 8, &[state, 1, 0, on_cpu, 2, 32]);
    file.add(File::FORWARD, "task", 0, 0, &[]);
    file.add(File::PROTOTYPE, "", 0, 0, &[]);
    file.add(File::FUNCTION, "task", 0, 5, &[]);
    let types = file.read();
    assert_eq!(types.size("task"), Some(8));
    assert!(types.has_function("task") && !types.has_function("int"));
    assert_eq!(
        types.bits(&member(&[("task", "state"), ("task", "__state")], 4)),
        Some(0)
    );
    assert_eq!(types.bits(&member(&[("task", "on_cpu")], 1)), Some(32));
    assert_eq!(types.bits(&member(&[("task", "on_cpu")], 4)), None);
    assert_eq!(types.bits(&member(&[("task", "gone")], 4)), None);
    assert_eq!(types.bits(&member(&[("thread", "on_cpu")], 1)), None);
}

/// Make sure that the running kernel's types give every offset that the programs need.
#[test]
fn running_kernel() {
    let path = Path::new(VMLINUX_BTF);
    if !path.exists() {
        eprintln!("skipped: {VMLINUX_BTF} is not there");
        return;
    }
    let mut resolved = resolve(path).unwrap();
    // Came with 6.4 (5e31275cc997): without it nothing is wrong, but slower.
    resolved
        .absent
        .retain(|member| *member != "mm_struct.mm_lock_seq.sequence");
    // A module's types are told since 5.11, and while it is loaded.
    if !Path::new("/sys/kernel/btf/overlay").exists() {
        resolved.absent.retain(|member| !member.starts_with("ovl_"));
    }
    assert_eq!(resolved.absent, Vec::<&str>::new());
    assert!(resolved.offsets.upid_size >= 16);
}

/// Make sure that a missing or broken file is an error that names it.
#[test]
fn no_btf() {
    let missing = resolve(Path::new("/nonexistent/vmlinux")).unwrap_err().to_string();
    assert!(missing.contains("/nonexistent/vmlinux"), "{missing}");
    let broken = resolve(Path::new("/bin/sh")).unwrap_err().to_string();
    assert!(broken.contains("/bin/sh"), "{broken}");
}
