//! The host's key, and that of the account that pays for its anchors.

use std::path::Path;

use meridian_proofs::Address;

use super::Finding;
use crate::key;

/// The address of the key file.
pub(super) fn look(file: &Path) -> (Option<Address>, Finding) {
    match key::load(file) {
        Ok(key) => {
            let address = key.address();
            (Some(address), Finding::ok("key", format!("{address}, readable by its owner only")))
        }
        Err(error) => (None, Finding::problem("key", format!("{error:#}"), advice(file, "node.key"))),
    }
}

/// The account's key, and its password where it has one.
pub(super) fn account(file: &Path, password: Option<&Path>) -> Finding {
    match key::load_account(file, password) {
        Ok(key) => Finding::ok("account", format!("{} pays for anchors", key.address())),
        Err(error) => Finding::problem("account", format!("{error:#}"), advice(file, "anchor.key")),
    }
}

fn advice(file: &Path, setting: &str) -> &'static str {
    match (file.exists(), setting) {
        (true, _) => {
            "mend the file as said, as the user that the host runs as; a key that others could read is worth a new one"
        }
        (false, "node.key") => {
            "make a key with `da-node key new`, or put the backup of this host's key there (node.key)"
        }
        (false, _) => "put the account's key there, or leave anchor.key empty",
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_key_is_fine_when_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let (address, finding) = look(&file);
        assert_eq!((address, finding.verdict), (None, Verdict::Problem));
        assert!(finding.advice.unwrap().contains("key new"));

        let made = key::create(&file).unwrap().address();
        for (mode, verdict) in [(0o600, Verdict::Ok), (0o400, Verdict::Ok), (0o640, Verdict::Problem)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let (address, finding) = look(&file);
            assert_eq!((address, finding.verdict), ((verdict == Verdict::Ok).then_some(made), verdict));
            assert_eq!(account(&file, None).verdict, verdict);
        }
        let finding = look(&file).1;
        assert!(finding.measured.contains("0640") && finding.advice.unwrap().contains("mend"));
    }
}
