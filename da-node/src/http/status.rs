//! `/status`: what a host is doing, as JSON.

use meridian_proto::convert::{AnchorStatus, EpochClosing, GatewayStatus, ReplicaStatus, SeatHealth};
use serde_json::{Value, json};

/// The status of a gateway.
pub fn gateway(status: &GatewayStatus) -> Value {
    json!({
        "role": "gateway",
        "version": status.version,
        "address": status.address.to_string(),
        "epoch": status.epoch,
        "phase": status.phase.as_str(),
        "closings": status.closings.iter().map(closing).collect::<Vec<_>>(),
        "log_size": status.log_size,
        "certified_size": status.certified_size,
        "puts_in_flight": status.puts_in_flight,
        "uploads_pending": status.uploads_pending,
        "memory_used_bytes": status.memory_used,
        "memory_budget_bytes": status.memory_budget,
        "seats": status.seats.iter().map(seat).collect::<Vec<_>>(),
        "anchor": status.anchor.as_ref().map(anchor),
        "now_ms": status.now_ms,
    })
}

fn anchor(anchor: &AnchorStatus) -> Value {
    json!({
        "size": anchor.size,
        "epoch": anchor.epoch,
        "timestamp": anchor.timestamp,
        "block": anchor.block,
        "transaction": anchor.transaction.map(|hash| hash.to_string()),
        "last_error": anchor.last_error,
    })
}

fn closing(closing: &EpochClosing) -> Value {
    json!({ "epoch": closing.epoch, "size": closing.size, "anchored": closing.anchored })
}

fn seat(seat: &SeatHealth) -> Value {
    json!({
        "address": seat.address.to_string(),
        "connected": seat.connected,
        "in_quorum": seat.in_quorum,
        "cosigned_size": seat.cosigned_size,
        "round_trip_seconds": seat.round_trip.as_secs_f64(),
        "last_error": seat.last_error,
    })
}

/// The status of a replica.
pub fn replica(status: &ReplicaStatus) -> Value {
    json!({
        "role": "replica",
        "version": status.version,
        "address": status.address.to_string(),
        "region": status.region.0,
        "seat": status.seat,
        "epoch": status.epoch,
        "blobs": status.blobs,
        "row_bytes": status.row_bytes,
        "max_bytes": status.max_bytes,
        "logs": status.logs,
        "seated_epochs": status.seated_epochs,
        "logs_behind": status.logs_behind,
        "repair_left": status.repair_left,
        "quarantined": status.quarantined,
        "scrubbed_at": status.scrubbed_at,
        "store_failed": status.store_failed,
        "now_ms": status.now_ms,
    })
}
