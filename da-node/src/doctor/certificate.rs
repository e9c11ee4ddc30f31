//! The certificate of the host's ports, and who is trusted to be it.

use std::path::Path;

use meridian_client::tls::{self, Trust, TrustSettings, Validity};

use super::{Finding, Subject};
use crate::server::tls::check;

const CHECK: &str = "certificate";
/// Seconds in a day.
const DAY: i64 = 86_400;
/// Days before its end at which a certificate should have been renewed.
const SOON: i64 = 14;

/// Whether ports that others reach speak TLS, and until when the certificate is valid.
pub(super) fn look(subject: &Subject, now: u64) -> Finding {
    if let Err(error) = check(&subject.listen, &subject.tls) {
        return Finding::problem(
            CHECK,
            format!("{error:#}"),
            "the host does not start like this: do as said",
        );
    }
    let Some(files) = subject.tls.identity() else {
        let listen = &subject.listen;
        let open = [listen.grpc, listen.http].into_iter().find(|it| !it.ip().to_canonical().is_loopback());
        return match open {
            None => Finding::ok(CHECK, "none is needed: only this machine reaches the ports"),
            Some(address) => {
                let measured = format!("{address} is reached by others without TLS, as listen.insecure says");
                Finding::warning(
                    CHECK,
                    measured,
                    "set tls.certificate and tls.key, unless the network is private",
                )
            }
        };
    };
    match tls::validity(&files.certificate) {
        Ok(validity) => judge(&files.certificate, validity, i64::try_from(now).unwrap_or(i64::MAX)),
        Err(error) => Finding::problem(
            CHECK,
            error.to_string(),
            "put the certificate and its chain there (tls.certificate)",
        ),
    }
}

fn judge(file: &Path, Validity { from, to }: Validity, now: i64) -> Finding {
    let file = file.display();
    let days = |seconds: i64| seconds.saturating_abs() / DAY;
    let renew = "put a new certificate and key in their places: the host reads them again by itself";
    if now < from {
        let measured = format!("{file} is valid in {} days", days(from.saturating_sub(now)));
        return Finding::problem(
            CHECK,
            measured,
            "check this machine's clock, or put the certificate before this one back",
        );
    }
    if now > to {
        return Finding::problem(
            CHECK,
            format!("{file} ended {} days ago", days(now.saturating_sub(to))),
            renew,
        );
    }
    let left = days(to.saturating_sub(now));
    let measured = format!("{file} is valid for {left} more days");
    if left < SOON { Finding::warning(CHECK, measured, renew) } else { Finding::ok(CHECK, measured) }
}

/// Trust in this very host, under whatever name it is reached; nothing where it has no certificate that can be read.
pub(super) fn ours(subject: &Subject) -> Option<Trust> {
    let pin = tls::pin(&subject.tls.identity()?.certificate).ok()?;
    Trust::new(TrustSettings { ca: None, pins: vec![pin], ..subject.tls.trust() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn certificates_are_judged_by_their_dates() {
        let validity = Validity { from: 100 * DAY, to: 200 * DAY };
        for (now, verdict, says) in [
            (99 * DAY, Verdict::Problem, "valid in 1 days"),
            (100 * DAY, Verdict::Ok, "100 more days"),
            (186 * DAY, Verdict::Ok, "14 more days"),
            (186 * DAY + 1, Verdict::Warning, "13 more days"),
            (200 * DAY, Verdict::Warning, "0 more days"),
            (201 * DAY, Verdict::Problem, "ended 1 days ago"),
        ] {
            let finding = judge(Path::new("cert.pem"), validity, now);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.measured.contains(says), "{finding:?}");
        }
    }
}
