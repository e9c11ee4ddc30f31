//! Values of arguments.

use std::ops::Range;

use meridian_proofs::ids::Namespace;

use super::Since;

/// An endpoint: http://HOST:PORT or https://HOST:PORT, where http:// may be left out.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    url(text, &["http", "https"], "not of the form http://HOST:PORT or https://HOST:PORT")
}

/// An endpoint without TLS: http://HOST:PORT, where the scheme may be left out.
pub(super) fn plain_endpoint(text: &str) -> Result<String, String> {
    url(text, &["http"], "not of the form http://HOST:PORT")
}

fn url(text: &str, schemes: &[&str], otherwise: &str) -> Result<String, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
    if uri.authority().is_none() || !uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme)) {
        return Err(otherwise.to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// A namespace: 32 bytes in hex, with or without 0x.
pub(super) fn namespace(text: &str) -> Result<Namespace, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_| format!("not 32 bytes in hex: {} digits, 64 are needed", digits.len()))?;
    Ok(Namespace::from(bytes))
}

/// A range of bytes: A..B, without B.
pub(super) fn range(text: &str) -> Result<Range<u64>, String> {
    let number = |digits: &str| digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    let ends = text.split_once("..").and_then(|(start, end)| Some(number(start)?..number(end)?));
    let range = ends.ok_or_else(|| format!("{text:?} is not a range like 0..31"))?;
    if range.is_empty() { Err(format!("{text:?} has no bytes")) } else { Ok(range) }
}

/// A time: unix seconds, or how long ago in units like 2d or 1d12h.
pub(super) fn since(text: &str) -> Result<Since, String> {
    let seconds = duration(text)
        .map_err(|_| format!("{text:?} is neither unix seconds nor a time back like 2d or 1d12h"))?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    Ok(if is_number { Since::At(seconds) } else { Since::Back(seconds) })
}

/// A time in seconds: a number of them, or numbers with units w, d, h, m, s in falling order.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    let bad = || format!("{text:?} is not a time like 14d, 12h, 1d12h or a number of seconds");
    if let Ok(seconds) = text.parse::<u64>() {
        return if text.starts_with('+') { Err(bad()) } else { Ok(seconds) };
    }
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = rest[digits..].chars().next().ok_or_else(bad)?;
        let place = units.iter().position(|(name, _)| *name == unit).ok_or_else(bad)?;
        let seconds = number.checked_mul(units[place].1).and_then(|seconds| total.checked_add(seconds));
        total = seconds.ok_or_else(|| format!("{text:?} is too long a time"))?;
        units = &units[place + 1..];
        rest = &rest[digits + unit.len_utf8()..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("2m", 120),
            ("12h", 43_200),
            ("14d", super::super::DEFAULT_RETENTION),
        ] {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        assert_eq!(duration("1w2d3h4m5s"), Ok(604_800 + 172_800 + 10_800 + 240 + 5));
        for text in
            ["", "d", "1x", "1h1d", "1d1d", "-1", "+1", "1.5h", "1d2", "1 d", "18446744073709551615w", "1ß"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_back_and_unix_seconds() {
        assert_eq!(since("1790000000"), Ok(Since::At(1_790_000_000)));
        assert_eq!(since("2d"), Ok(Since::Back(172_800)));
        assert_eq!((Since::At(5).unix(9), Since::Back(5).unix(9), Since::Back(10).unix(9)), (5, 4, 0));
        for text in ["", "-2d", "yesterday", "2026-01-01"] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(range("0..31"), Ok(0..31));
        assert_eq!(range("5..18446744073709551615"), Ok(5..u64::MAX));
        for text in
            ["", "..", "1", "1..", "..1", "1..1", "2..1", "1...2", "1..=2", "-1..2", "+1..2", "0..1..2"]
        {
            assert!(range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn namespaces() {
        let full = "11".repeat(32);
        assert_eq!(namespace(&full), Ok(Namespace::from([0x11; 32])));
        assert_eq!(namespace(&format!("0x{full}")), Ok(Namespace::from([0x11; 32])));
        assert!(namespace(&full[2..]).is_err());
        assert!(namespace(&format!("{full}11")).is_err());
        assert!(namespace(&"zz".repeat(32)).is_err());
    }

    #[test]
    fn endpoints() {
        assert_eq!(endpoint("127.0.0.1:80"), Ok("http://127.0.0.1:80".to_owned()));
        assert_eq!(endpoint("http://a.example:1/"), Ok("http://a.example:1".to_owned()));
        assert_eq!(endpoint("https://a.example:1/"), Ok("https://a.example:1".to_owned()));
        for text in ["", "ftp://a:1", "http://", "https://", "a b"] {
            assert!(endpoint(text).is_err() && plain_endpoint(text).is_err(), "{text}");
        }
        assert_eq!(plain_endpoint("a:1"), Ok("http://a:1".to_owned()));
        assert!(plain_endpoint("https://a:1").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (duration(&text), since(&text), namespace(&text), endpoint(&text), range(&text));
        }
    }
}
