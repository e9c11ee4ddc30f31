use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;

fn namespace(byte: u8) -> Namespace {
    Namespace::from([byte; 32])
}

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
}

fn bearer(secret: &Secret) -> HeaderMap {
    headers(&format!("Bearer {}", secret.reveal()))
}

#[test]
fn a_token_writes_to_its_namespaces_until_it_ends() {
    let mut tokens = Tokens::default();
    let secret = tokens.add("batcher-1", vec![namespace(1), namespace(2)], NOW).unwrap();
    let check = |tokens: &Tokens, namespace, now| {
        tokens.check(&bearer(&secret), namespace, now).map(|token| token.name.clone())
    };
    assert_eq!(check(&tokens, namespace(1), NOW - 1).unwrap(), "batcher-1");
    assert_eq!(check(&tokens, namespace(2), 0).unwrap(), "batcher-1");
    assert!(matches!(check(&tokens, namespace(3), 0), Err(Denied::Foreign { .. })));
    assert!(matches!(check(&tokens, namespace(1), NOW), Err(Denied::Expired { expiry: NOW, .. })));
    assert!(matches!(check(&tokens, namespace(1), NOW + 1), Err(Denied::Expired { .. })));
    tokens.revoke("batcher-1").unwrap();
    assert_eq!(check(&tokens, namespace(1), 0), Err(Denied::Unknown));
    assert!(matches!(tokens.revoke("batcher-1"), Err(TokensError::NoSuch(_))));
}

#[test]
fn every_way_to_present_one() {
    let mut tokens = Tokens::default();
    let secret = tokens.add("a", vec![namespace(1)], NOW).unwrap();
    let basic = |user: &str| {
        headers(&format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", secret.reveal()))))
    };
    for good in [bearer(&secret), headers(&format!("bearer  {} ", secret.reveal())), basic("any"), basic("")]
    {
        assert!(tokens.check(&good, namespace(1), 0).is_ok(), "{good:?}");
    }
    assert_eq!(tokens.check(&HeaderMap::new(), namespace(1), 0), Err(Denied::Missing));
    for missing in ["", "Bearer", secret.reveal(), "Digest a=b", "Basic !!!!", "Basic YWJj"] {
        assert_eq!(tokens.check(&headers(missing), namespace(1), 0), Err(Denied::Missing), "{missing}");
    }
    for unknown in ["Bearer ", "Bearer x", "Bearer meridian_00", "Basic Og=="] {
        assert_eq!(tokens.check(&headers(unknown), namespace(1), 0), Err(Denied::Unknown), "{unknown}");
    }
}

#[test]
fn secrets_differ_and_are_nowhere_but_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    let mut tokens = Tokens::load_or_new(&path).unwrap();
    let secret = tokens.add("one", vec![namespace(1)], NOW).unwrap();
    let other = tokens.add("other", Vec::new(), NOW).unwrap();
    assert_ne!(secret.reveal(), other.reveal());
    assert_eq!(secret.reveal().len(), PREFIX.len() + 64);
    tokens.save(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let seen = format!("{text} {tokens:?} {secret:?} {:?}", tokens.check(&bearer(&other), namespace(1), 0));
    assert!(
        !seen.contains(&secret.reveal()[PREFIX.len()..]) && !seen.contains(&other.reveal()[PREFIX.len()..])
    );
    assert_eq!(Tokens::load(&path).unwrap(), tokens);
}

#[test]
fn names_are_unique_and_short() {
    let mut tokens = Tokens::default();
    tokens.add("a", Vec::new(), NOW).unwrap();
    assert!(matches!(tokens.add("a", Vec::new(), NOW), Err(TokensError::Taken(_))));
    for (length, fits) in [(0, false), (1, true), (63, true), (64, true), (65, false)] {
        assert_eq!(tokens.add(&"b".repeat(length), Vec::new(), NOW).is_ok(), fits, "{length}");
    }
    for bad in ["a b", "ß", "a/b", "\n"] {
        assert!(matches!(tokens.add(bad, Vec::new(), NOW), Err(TokensError::Name(_))), "{bad}");
    }
}

#[test]
fn a_broken_file_is_refused_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    let entry = |name: &str, hash: &str| {
        format!(
            "[[tokens]]\nname = \"{name}\"\nhash = \"0x{}\"\nnamespaces = []\nexpiry = 1\n",
            hash.repeat(32)
        )
    };
    let file = |text: &str| format!("format_version = 1\n{text}");
    for good in [file(""), file(&entry("a", "01")), file(&(entry("a", "01") + &entry("b", "02")))] {
        std::fs::write(&path, good).unwrap();
        Tokens::load(&path).unwrap();
    }
    let twice = file(&(entry("a", "01") + &entry("a", "02")));
    let same = file(&(entry("a", "01") + &entry("b", "01")));
    let unknown = file("more = 1\n");
    for bad in ["", "format_version = 2\n", "hunter2", &twice, &same, &unknown, &file(&entry("a b", "01"))] {
        std::fs::write(&path, bad).unwrap();
        let message = Tokens::load(&path).unwrap_err().to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }
    for (length, fits) in [(MAX_FILE - 1, true), (MAX_FILE, true), (MAX_FILE + 1, false)] {
        let mut text = file("#");
        text.extend(std::iter::repeat_n('x', usize::try_from(length).unwrap() - text.len()));
        std::fs::write(&path, text).unwrap();
        assert_eq!(Tokens::load(&path).is_ok(), fits, "{length}");
    }
    assert!(Tokens::load(&folder.path().join("nothing")).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_it_changes_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    let mut tokens = Tokens::default();
    tokens.save(&path).unwrap();
    let file = TokenFile::open(path.clone()).unwrap();
    let secret = tokens.add("a", vec![namespace(1)], NOW).unwrap();
    let knows = |file: &TokenFile| file.current().check(&bearer(&secret), namespace(1), 0).is_ok();
    assert!(!knows(&file));
    tokens.save(&path).unwrap();
    tokio::time::advance(LOOK_EVERY).await;
    assert!(knows(&file));
    for broken in [Some("nothing"), None] {
        match broken {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        tokio::time::advance(LOOK_EVERY).await;
        assert!(knows(&file), "{broken:?}");
    }
    Tokens::default().save(&path).unwrap();
    tokio::time::advance(LOOK_EVERY).await;
    assert!(!knows(&file));
}

proptest! {
    #[test]
    fn any_header_costs_nothing_and_opens_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut tokens = Tokens::default();
        tokens.add("a", vec![namespace(1)], u64::MAX).unwrap();
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            prop_assert!(tokens.check(&headers, namespace(1), 0).is_err());
        }
    }
}
