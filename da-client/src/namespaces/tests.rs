use super::*;

const OWNER: Address = Address::repeat_byte(1);
const WRITER: Address = Address::repeat_byte(2);

fn id(byte: u8) -> Namespace {
    Namespace::from([byte; 32])
}

fn problem(text: &str) -> String {
    Namespaces::parse(text).unwrap_err().to_string()
}

fn entry(byte: u8, rest: &str) -> String {
    format!("[[namespace]]\nid = \"{}\"\nowner = \"{OWNER}\"\n{rest}\n", id(byte))
}

#[test]
fn what_is_written_is_what_is_read() {
    let mut namespaces = Namespaces { open: true, ..Namespaces::default() };
    namespaces.limits.requests_per_second = Some(5);
    let limits = Limits { stored_bytes: Some(MAX_STORED), burst_bytes: Some(1), ..Limits::default() };
    namespaces.create(id(1), OWNER, limits).unwrap();
    namespaces.create(id(0), WRITER, Limits::default()).unwrap();
    namespaces.allow(id(1), &[WRITER, OWNER, WRITER]).unwrap();
    assert_eq!(namespaces.listed[&id(1)].writers.len(), 1, "the owner needs no leave");
    let text = namespaces.to_text().unwrap();
    assert_eq!(Namespaces::parse(&text).unwrap(), namespaces, "{text}");
    let none = Namespaces::parse("format_version = 1\n").unwrap();
    assert_eq!(none, Namespaces::default());
}

#[test]
fn limits_of_one_go_before_those_of_all() {
    let all = Limits { requests_per_second: Some(1), stored_bytes: Some(2), ..Limits::default() };
    let one = Limits { stored_bytes: Some(3), ..Limits::default() };
    let both = one.or(all);
    assert_eq!(
        (both.requests_per_second, both.stored_bytes, both.bytes_per_second),
        (Some(1), Some(3), None)
    );
}

#[test]
fn whatever_else_a_file_says_is_refused() {
    let with = |rest: &str| format!("format_version = 1\n{rest}");
    assert!(problem("").contains("format_version"));
    assert!(problem("format_version = 2\n").contains("only 1 is known"));
    assert!(problem(&with("opened = true\n")).contains("opened"));
    assert!(problem(&with("open = 1\n")).contains("line 2"));
    assert!(problem(&with("[limits]\nputs = 1\n")).contains("puts"));
    assert!(problem(&with(&entry(1, "writer = []"))).contains("writer"));
    assert!(problem(&with(&entry(1, "writers = [\"0x12\"]"))).contains("line 5"));
    assert!(problem(&with(&(entry(1, "") + &entry(1, "")))).contains("listed twice"));
    let zero = format!("writers = [\"{}\"]", Address::ZERO);
    assert!(problem(&with(&entry(1, &zero))).contains("zero address"));
    for (name, most) in [
        ("requests_per_second", MAX_REQUESTS),
        ("burst_requests", MAX_REQUESTS),
        ("bytes_per_second", MAX_BYTES),
        ("burst_bytes", MAX_BYTES),
        ("stored_bytes", MAX_STORED),
    ] {
        for (value, fine) in [(0, false), (1, true), (most - 1, true), (most, true)] {
            let text = with(&entry(1, &format!("limits = {{ {name} = {value} }}")));
            assert_eq!(Namespaces::parse(&text).is_ok(), fine, "{name} = {value}");
            let text = with(&format!("[limits]\n{name} = {value}\n"));
            assert_eq!(Namespaces::parse(&text).is_ok(), fine, "{name} = {value}");
        }
        let over = with(&format!("[limits]\n{name} = {}\n", u128::from(most) + 1));
        assert!(Namespaces::parse(&over).is_err(), "{name}");
        assert!(Namespaces::parse(&with(&format!("[limits]\n{name} = -1\n"))).is_err(), "{name}");
    }
}

#[test]
fn lists_have_a_longest_length() {
    let address = |number: usize| Address::left_padding_from(&(number + 1_000).to_be_bytes());
    for (count, fine) in [(MAX_WRITERS - 1, true), (MAX_WRITERS, true), (MAX_WRITERS + 1, false)] {
        let writers: Vec<Address> = (0..count).map(address).collect();
        let mut namespaces = Namespaces::default();
        namespaces.create(id(1), OWNER, Limits::default()).unwrap();
        namespaces.allow(id(1), &writers).unwrap();
        assert_eq!(Namespaces::parse(&namespaces.to_text().unwrap()).is_ok(), fine, "{count}");
    }
    for (count, fine) in [(MAX_NAMESPACES - 1, true), (MAX_NAMESPACES, true), (MAX_NAMESPACES + 1, false)] {
        let mut namespaces = Namespaces::default();
        for number in 0..count {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            namespaces.create(Namespace::from(bytes), OWNER, Limits::default()).unwrap();
        }
        assert_eq!(Namespaces::parse(&namespaces.to_text().unwrap()).is_ok(), fine, "{count}");
    }
}

#[test]
fn changes_are_whole_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("namespaces.toml");
    let create = |list: &mut Namespaces| list.create(id(1), OWNER, Limits::default());
    assert!(Namespaces::change(&path, false, create).is_err(), "there is no file");
    Namespaces::change(&path, true, create).unwrap();
    assert!(matches!(Namespaces::change(&path, true, create), Err(NamespacesError::Exists(_))));
    Namespaces::change(&path, false, |list| list.allow(id(1), &[WRITER])).unwrap();
    assert!(Namespaces::load(&path).unwrap().listed[&id(1)].allows(&WRITER));

    let before = std::fs::read(&path).unwrap();
    assert!(Namespaces::change(&path, false, |list| list.allow(id(2), &[WRITER])).is_err());
    assert!(Namespaces::change(&path, false, |list| list.allow(id(1), &[Address::ZERO])).is_err());
    assert!(Namespaces::change(&path, false, |list| list.deny(id(1), &[OWNER])).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    Namespaces::change(&path, false, |list| list.deny(id(1), &[WRITER])).unwrap();
    let listed = &Namespaces::load(&path).unwrap().listed[&id(1)];
    assert!(listed.allows(&OWNER) && !listed.allows(&WRITER));
    Namespaces::change(&path, false, |list| list.remove(id(1))).unwrap();
    assert_eq!(Namespaces::load(&path).unwrap(), Namespaces::default());
    std::fs::write(&path, "nonsense").unwrap();
    assert!(Namespaces::change(&path, true, create).is_err(), "what cannot be read is not replaced");
    assert_eq!(std::fs::read(&path).unwrap(), b"nonsense");
}

#[test]
fn changes_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("namespaces.toml");
    std::thread::scope(|scope| {
        for byte in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let create = |list: &mut Namespaces| list.create(id(byte), OWNER, Limits::default());
                Namespaces::change(path, true, create).unwrap();
            });
        }
    });
    assert_eq!(Namespaces::load(&path).unwrap().listed.len(), 8);
}
