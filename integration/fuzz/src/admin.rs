//! Orders to a host: each does what it says and nothing else.

use std::sync::Arc;

use meridian_node::admin::Service;
use meridian_proto::wire::admin_server::AdminServer;
use meridian_proto::{MAX_MESSAGE, Reason, wire};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::draft::draft;
use super::grpc::{Outcome, call, single};
use super::home::{Home, QUIET, run};
use super::input::Input;

const METHODS: [&str; 4] = ["Admin/SetLogFilter", "Admin/Drain", "Admin/Scrub", "Admin/Repair"];
const FILTERS: [&str; 8] =
    ["error", "warn,meridian_node=off", "off", "", "loud=very", "[put{length=1}]=error", ",,", "meridian=9"];
/// Longest filter.
const MOST: usize = 1024;

pub fn admin(data: &[u8]) {
    run(data, once);
    run(&[], async |home, _| {
        assert_eq!(home.telemetry().log.set(QUIET).unwrap(), home.filter.replace(QUIET.to_owned()));
    });
}

/// Call u8, host u8 (a replica, or where it is odd a gateway), filter u8, then what is changed.
async fn once(home: &Home, input: &mut Input<'_>) {
    let (what, is_gateway) = (input.byte() % 4, input.byte() & 1 != 0);
    let filter = match usize::from(input.byte()) {
        long @ 0xfe.. => ",".repeat(MOST + long - 0xfe),
        choice => FILTERS[choice % FILTERS.len()].to_owned(),
    };
    let message = match what {
        0 => wire::SetLogFilterRequest { filter }.encode_to_vec(),
        _ => wire::DrainRequest {}.encode_to_vec(),
    };
    let sent = draft(home, input, vec![message], |_, _| {});
    // The network is to go on: whoever is drained here is nobody.
    let drain = CancellationToken::new();
    let replica = (!is_gateway).then(|| Arc::clone(&home.replicas[0]));
    let service = Service { drain: drain.clone(), log: home.telemetry().log.clone(), replica };
    let service = AdminServer::new(service);
    let service = service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let outcome = call(service, METHODS[usize::from(what)], &sent).await;

    let is_answered = matches!(outcome, Outcome::Answer(_));
    assert_eq!(drain.is_cancelled(), what == 1 && is_answered);
    if what == 0 {
        return filtered(home, sent.request().await, outcome).await;
    }
    let request: Option<wire::DrainRequest> = sent.request().await;
    if let Outcome::Unframed(status) = &outcome
        && request.is_some()
    {
        assert!(is_gateway && what > 1 && status.code() == Code::Unimplemented, "{status:?}");
        return;
    }
    outcome.judged(request, &sent);
}

/// Who is told another filter tells which one there was.
async fn filtered(home: &Home, asked: Option<wire::SetLogFilterRequest>, outcome: Outcome) {
    match (asked, outcome) {
        (Some(asked), Outcome::Answer(answer)) => {
            assert!(asked.filter.len() <= MOST);
            let wire::SetLogFilterResponse { before } = single(&answer).await;
            assert_eq!(before, home.filter.replace(asked.filter));
        }
        (Some(asked), Outcome::Refused(error)) => {
            assert_eq!(error.reason == Reason::MessageTooLarge, asked.filter.len() > MOST);
            assert!(!FILTERS[..4].contains(&asked.filter.as_str()), "{error}");
        }
        (Some(_), gone) => assert!(matches!(gone, Outcome::Gone)),
        (None, outcome) => assert!(!matches!(outcome, Outcome::Answer(_)), "{outcome:?}"),
    }
}
