//! The certificates of a devnet: an authority of its own, and a certificate for each member.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use meridian_client::submit::unix_now;
use meridian_client::tls::{Validity, validity};

use super::authority::{Authority, Kept, Wanted, kept_key, replace};
use super::plan::Member;

/// What members are called by.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Days that the authority lives, and a certificate.
const AUTHORITY_DAYS: i64 = 3_650;
const CERTIFICATE_DAYS: i64 = 365;

/// The folder of the certificates.
fn folder(dir: &Path) -> PathBuf {
    dir.join("tls")
}

/// The authority's certificate, which clients trust.
#[must_use]
pub fn ca_path(dir: &Path) -> PathBuf {
    folder(dir).join("ca.pem")
}

/// A member's certificate and its key.
pub(super) fn files(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder(dir).join(format!("{name}.pem")), folder(dir).join(format!("{name}-key.pem")))
}

/// Makes what is missing, and anew what has lived for half of its time. Keys stay, so that pins of them hold.
pub(super) fn prepare(dir: &Path, members: &[Member]) -> Result<()> {
    let (now, ca) = (i64::try_from(unix_now())?, ca_path(dir));
    std::fs::create_dir_all(folder(dir))
        .with_context(|| format!("cannot make folder {}", folder(dir).display()))?;
    let Kept { key, is_new } = kept_key(&folder(dir).join("ca-key.pem"))?;
    let authority = Authority::new("meridian devnet", key, now, AUTHORITY_DAYS)?;
    if is_new || is_due(&ca, now) {
        replace(&ca, &authority.pem()?)?;
    }
    for member in members {
        let (certificate, key) = files(dir, &member.name);
        let key = kept_key(&key)?;
        if is_new || key.is_new || is_due(&certificate, now) {
            let wanted = Wanted { name: &member.name, names: &NAMES, now, days: CERTIFICATE_DAYS };
            replace(&certificate, &authority.issue(&wanted, &key.key)?)?;
        }
    }
    Ok(())
}

/// Whether a certificate is not there, or less than half of its life is left.
fn is_due(certificate: &Path, now: i64) -> bool {
    match validity(certificate) {
        Ok(Validity { from, to }) => to.saturating_sub(now).saturating_mul(2) < to.saturating_sub(from),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::devnet::plan::{Options, Plan};

    #[test]
    fn half_of_a_life_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let Kept { key, .. } = kept_key(&dir.path().join("key")).unwrap();
        let authority = Authority::new("test", key, 1_000_000_000, 10).unwrap();
        let path = dir.path().join("ca.pem");
        assert!(is_due(&path, 1_000_000_000));
        replace(&path, &authority.pem().unwrap()).unwrap();
        let Validity { from, to } = validity(&path).unwrap();
        let middle = from + (to - from) / 2;
        for (now, due) in
            [(from, false), (middle - 1, false), (middle, false), (middle + 1, true), (to + 1, true)]
        {
            assert_eq!(is_due(&path, now), due, "{}", now - middle);
        }
        fs::write(&path, "no certificate").unwrap();
        assert!(is_due(&path, from));
    }

    #[test]
    fn certificates_are_made_once_and_again_when_they_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let plan =
            Plan::prepare(dir.path(), &Options { regions: Some("2".into()), ..Options::default() }).unwrap();
        let members = plan.members(dir.path());
        let all = || -> Vec<Vec<u8>> {
            let mut paths: Vec<_> =
                fs::read_dir(folder(dir.path())).unwrap().map(|it| it.unwrap().path()).collect();
            paths.sort();
            assert_eq!(paths.len(), 2 * (members.len() + 1));
            for path in &paths {
                let is_key = path.to_str().unwrap().ends_with("-key.pem");
                let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
                assert!(!is_key || mode == 0o600, "{mode:o} {}", path.display());
            }
            paths.iter().map(|path| fs::read(path).unwrap()).collect()
        };
        let before = all();
        Plan::prepare(dir.path(), &Options::default()).unwrap();
        assert_eq!(all(), before);
        let (certificate, key) = files(dir.path(), &members[1].name);
        let kept = fs::read(&key).unwrap();
        fs::remove_file(&certificate).unwrap();
        Plan::prepare(dir.path(), &Options::default()).unwrap();
        assert_eq!(fs::read(&key).unwrap(), kept);
        assert_eq!(all().iter().zip(&before).filter(|(now, then)| now != then).count(), 1);
        // Of another authority everything is.
        fs::remove_file(folder(dir.path()).join("ca-key.pem")).unwrap();
        Plan::prepare(dir.path(), &Options::default()).unwrap();
        assert_eq!(all().iter().zip(&before).filter(|(now, then)| now != then).count(), members.len() + 2);
    }

    #[test]
    fn a_network_without_tls_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::prepare(dir.path(), &Options { insecure: true, ..Options::default() }).unwrap();
        assert!(!plan.tls && !folder(dir.path()).exists());
        assert!(!fs::read_to_string(dir.path().join("devnet.toml")).unwrap().contains("tls"));
        assert_eq!(Plan::prepare(dir.path(), &Options::default()).unwrap(), plan);
        let secured = tempfile::tempdir().unwrap();
        Plan::prepare(secured.path(), &Options::default()).unwrap();
        let asked = Options { insecure: true, ..Options::default() };
        let said = Plan::prepare(secured.path(), &asked).unwrap_err().to_string();
        assert!(said.contains("has --insecure off, not on"), "{said}");
    }
}
