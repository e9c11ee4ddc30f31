//! An audit as one page: no script, and nothing from anywhere else.
//!
//! Programs find the figures by ids and data attributes. Whatever came over the network is escaped.

use std::fmt::Write;

use crate::cli::report::{
    AuditReport, AuditedBlob, AuditedLog, AuditedRegion, AuditedReplica, SightingReport,
};
use crate::time::utc;

const STYLE: &str = include_str!("page.css");
/// See `land.mjs`.
const LAND: &str = include_str!("land.path");

/// Most blobs in the table.
const MOST_BLOBS: usize = 500;

/// Size of the map: two units for a degree. It ends at 60 south.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;

/// The page.
pub(super) fn html(report: &AuditReport) -> String {
    let headline = match report.outcome.as_str() {
        "identical" if report.distinct_blobs == 0 => "There is nothing to audit",
        "identical" => "Every copy is the same",
        "unavailable" => "Not every copy could be checked",
        _ => "Not every copy is right",
    };
    let shape = match report.outcome.as_str() {
        "identical" => "complete",
        "unavailable" => "unreachable",
        _ => "faulty",
    };
    let outcome = text(&report.outcome);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"Meridian da {version}\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Meridian audit: {outcome}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body data-outcome=\"{outcome}\">\n<main>\n<header>\n<p class=\"brand\">Meridian audit · {ended}</p>\n\
         <h1 class=\"state {outcome}\">{icon}{headline}</h1>\n<p id=\"verdict\">{verdict}</p>\n</header>\n\
         {figures}{map}{replicas}{faults}{blobs}{logs}{facts}\
         <footer>Made by da {version}. Each row was checked against its blob's id, and each entry against the root of its log. \
         A replica that fetches rows from others only when it is asked cannot be told from one that holds them.</footer>\n\
         </main>\n</body>\n</html>\n",
        version = text(&report.version),
        ended = utc(report.ended),
        icon = icon(shape),
        verdict = text(&report.verdict),
        figures = figures(report),
        map = map(&report.regions),
        replicas = replicas(report),
        faults = faults(report),
        blobs = blobs(report),
        logs = logs(&report.logs),
        facts = facts(report),
    )
}

/// Text in an element or in an attribute between double quotes.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for letter in raw.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A number with thin spaces between thousands.
fn number(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut spaced = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            spaced.push('\u{202f}');
        }
        spaced.push(digit);
    }
    spaced
}

/// The shape that stands for a state: it can be told without colors too. Its middle is the origin.
fn shape(state: &str) -> &'static str {
    match state {
        "complete" => "<circle class=\"mark\" r=\"6.5\"/><path class=\"glyph\" d=\"M-2.8 .2l2 2 3.6-4\"/>",
        "faulty" => {
            "<path class=\"mark\" d=\"M0-8.2L8.4 6.2h-16.8z\"/><path class=\"glyph\" d=\"M0-3v4.2M0 3.6v.1\"/>"
        }
        _ => {
            "<rect class=\"mark\" x=\"-6\" y=\"-6\" width=\"12\" height=\"12\" rx=\"2\"/>\
             <path class=\"glyph\" d=\"M-2.4-2.4l4.8 4.8M2.4-2.4l-4.8 4.8\"/>"
        }
    }
}

fn icon(state: &str) -> String {
    format!("<svg viewBox=\"-9 -9 18 18\" aria-hidden=\"true\">{}</svg>", shape(state))
}

/// A heading with a remark.
fn heading(title: &str, remark: &str) -> String {
    if remark.is_empty() {
        format!("<h2>{title}</h2>\n")
    } else {
        format!("<h2>{title} <small>{remark}</small></h2>\n")
    }
}

fn figures(report: &AuditReport) -> String {
    let (complete, all) = copies(report);
    let right: u64 = report.replicas.iter().map(|replica| replica.rows_right).sum();
    let asked: u64 = report.replicas.iter().map(asked).sum();
    let whole = report.blobs.iter().filter(|blob| blob.whole).count();
    let sound = report.regions.iter().filter(|region| region.state == "complete").count();
    let figure = |id: &str, value: String, raw: String, of: String, name: &str| {
        format!("<div><b id=\"{id}\" data-value=\"{raw}\">{value}{of}</b><span>{name}</span></div>\n")
    };
    let of = |all: String| format!(" <small>of {all}</small>");
    format!(
        "<section class=\"figures\" aria-label=\"figures\">\n{}{}{}{}{}</section>\n",
        figure(
            "blobs",
            number(report.distinct_blobs),
            report.distinct_blobs.to_string(),
            String::new(),
            "blobs audited"
        ),
        figure(
            "regions",
            sound.to_string(),
            sound.to_string(),
            of(report.regions.len().to_string()),
            "regions without a fault"
        ),
        figure("copies", number(complete), complete.to_string(), of(number(all)), "copies complete"),
        figure("rows", number(right), right.to_string(), of(number(asked)), "rows right"),
        figure(
            "rebuilt",
            number(whole),
            whole.to_string(),
            String::new(),
            "blobs rebuilt from each region alone"
        ),
    )
}

fn copies(report: &AuditReport) -> (usize, usize) {
    let complete = report.regions.iter().map(|region| region.complete).sum();
    (complete, report.regions.iter().map(|region| region.blobs).sum())
}

fn asked(replica: &AuditedReplica) -> u64 {
    let AuditedReplica { rows_right, rows_wrong, rows_missing, rows_silent, .. } = replica;
    [rows_wrong, rows_missing, rows_silent]
        .into_iter()
        .fold(*rows_right, |sum, rows| sum.saturating_add(*rows))
}

fn map(regions: &[AuditedRegion]) -> String {
    let mut grid = String::new();
    for meridian in 1..12 {
        let _ = write!(grid, "M{} 0v{HEIGHT}", meridian * 60);
    }
    for parallel in 1..5 {
        let _ = write!(grid, "M0 {}h{WIDTH}", parallel * 60);
    }
    let mut marks = String::new();
    let mut labels: Vec<(f64, f64)> = Vec::new();
    let mut places: Vec<(f64, f64)> = Vec::new();
    let place = |region: &AuditedRegion| {
        ((region.longitude + 180.0) * 2.0, ((90.0 - region.latitude) * 2.0).min(HEIGHT - 12.0))
    };
    for region in regions {
        let (x, y) = place(region);
        let is_near = |(other_x, other_y): &(f64, f64), y: f64, width: f64, height: f64| {
            (other_x - x).abs() < width && (other_y - y).abs() < height
        };
        // Labels of neighbours stand one below the other; so do the marks of those in one place, with a line to it.
        let mut down = 0.0;
        while labels.iter().any(|other| is_near(other, y + down, 100.0, 20.0)) {
            down += 20.0;
        }
        let shift = if places.iter().any(|other| is_near(other, y, 14.0, 14.0)) { down } else { 0.0 };
        let leader =
            if shift > 0.0 { format!("<path class=\"leader\" d=\"M0 0v{shift}\"/>") } else { String::new() };
        // Beside the mark where no other one is, or above it.
        let is_beside = |(other_x, other_y): (f64, f64)| {
            (14.0..130.0).contains(&(other_x - x)) && (other_y - y).abs() < 20.0
        };
        let is_crowded = regions.iter().map(place).any(is_beside);
        let is_left = x > WIDTH * 0.75 || (is_crowded && x > 160.0);
        if is_crowded && !is_left {
            down -= 16.0;
        }
        labels.push((x, y + down));
        places.push((x, y));
        let (side, anchor) = if is_left { (-13, "end") } else { (13, "start") };
        let AuditedRegion { complete, blobs, rebuilt, .. } = region;
        let (label, state) = (text(&region.label), text(&region.state));
        let _ = writeln!(
            marks,
            "<g class=\"marker {state}\" data-region=\"{label}\" data-state=\"{state}\" data-complete=\"{complete}\" \
             data-blobs=\"{blobs}\" data-rebuilt=\"{rebuilt}\" transform=\"translate({x:.1} {y:.1})\">\
             <title>{label}: {word}, {complete} of {blobs} copies complete</title>{leader}\
             <g transform=\"translate(0 {shift})\"><g class=\"shape\">{shape}</g></g>\
             <text x=\"{side}\" y=\"{baseline}\" text-anchor=\"{anchor}\">{label} \
             <tspan class=\"count\">{complete}/{blobs}</tspan></text></g>",
            word = word(&region.state),
            shape = shape(&region.state),
            baseline = down + 4.0,
        );
    }
    let legend = ["complete", "faulty", "unreachable"]
        .map(|state| format!("<li><span class=\"{state}\">{}</span>{}</li>", icon(state), word(state)));
    format!(
        "<section class=\"card\">\n{}<svg class=\"map\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"map of the regions\">\n<path class=\"grid\" d=\"{grid}\"/><path class=\"land\" d=\"{}\"/>\n{marks}</svg>\n\
         <ul class=\"legend\">{}</ul>\n</section>\n",
        heading("Regions", "beside each the copies that are complete"),
        LAND.trim(),
        legend.concat()
    )
}

fn word(state: &str) -> &'static str {
    match state {
        "complete" => "complete",
        "faulty" => "faults",
        _ => "out of reach",
    }
}

fn replicas(report: &AuditReport) -> String {
    let swatches = ["right", "wrong", "missing", "silent"].map(|kind| {
        format!(
            "<li><span class=\"swatch bar-{kind}\"></span>{}</li>",
            if kind == "silent" { "no answer" } else { kind }
        )
    });
    let replicas: String = report.replicas.iter().map(replica).collect();
    format!(
        "<section class=\"card\" id=\"replicas\">\n{}{replicas}<ul class=\"legend\">{}</ul>\n</section>\n",
        heading("Replicas", "rows that were asked for"),
        swatches.concat()
    )
}

fn replica(replica: &AuditedReplica) -> String {
    let all = asked(replica);
    let kinds = [
        ("right", replica.rows_right),
        ("wrong", replica.rows_wrong),
        ("missing", replica.rows_missing),
        ("silent", replica.rows_silent),
    ];
    let (mut bar, mut counts, mut data) = (String::new(), Vec::new(), String::new());
    for (kind, rows) in kinds {
        let _ = write!(data, " data-rows-{kind}=\"{rows}\"");
        if rows > 0 {
            let name = if kind == "silent" { "without an answer" } else { kind };
            let _ = write!(
                bar,
                "<i class=\"bar-{kind}\" style=\"flex-grow:{rows}\" title=\"{rows} {name}\"></i>"
            );
            counts.push(format!("<b>{}</b> {name}", number(rows)));
        }
    }
    let counts = if all == 0 { "no row was asked for".to_owned() } else { counts.join(" · ") };
    let latency = match (replica.latency_p50_us, replica.latency_max_us) {
        (Some(middle), Some(most)) => format!("p50 {} · max {}", millis(middle), millis(most)),
        _ => "no answer".to_owned(),
    };
    let fault = |name: &str, seen: &SightingReport| {
        let at = utc(seen.at);
        format!("<div class=\"note\">{name} {at}: {}, {}</div>", text(&seen.kind), text(&seen.message))
    };
    let notes = match (&replica.first_fault, &replica.last_fault) {
        (Some(first), Some(last)) if first.at == last.at && first.message == last.message => {
            fault("fault", first)
        }
        (Some(first), Some(last)) => fault("first fault", first) + &fault("last fault", last),
        _ => String::new(),
    };
    format!(
        "<article class=\"replica\" data-replica=\"{address}\" data-region=\"{region}\"{data} data-cosigned=\"{cosigned}\" \
         data-entries=\"{entries}\">\n<div><div class=\"name\">{region} {seat}</div><div class=\"mono\" title=\"{address}\">{short}</div></div>\n\
         <div class=\"middle\"><div class=\"bar\" role=\"img\" aria-label=\"{right} of {all} rows right\">{bar}</div>\
         <div class=\"counts\">{counts}</div></div>\n\
         <div class=\"side\">{latency}<br>cosigned {cosigned} of {entries}</div>\n{notes}</article>\n",
        address = text(&replica.replica),
        region = text(&replica.region),
        seat = replica.seat,
        short = text(&short(&replica.replica)),
        right = replica.rows_right,
        cosigned = replica.cosigned,
        entries = replica.entries,
    )
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

/// The ends of a long hexadecimal number.
fn short(hex: &str) -> String {
    match (hex.get(..8), hex.get(hex.len().saturating_sub(6)..)) {
        (Some(head), Some(tail)) if hex.len() > 16 => format!("{head}…{tail}"),
        _ => hex.to_owned(),
    }
}

/// A long hexadecimal number by its ends.
fn hash(hex: &str) -> String {
    format!("<code title=\"{}\">{}</code>", text(hex), text(&short(hex)))
}

fn table(id: &str, heads: &[&str], rows: &[String]) -> String {
    let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
    format!(
        "<div class=\"scroll\"><table id=\"{id}\"><thead><tr>{heads}</tr></thead><tbody>\n{}</tbody></table></div>\n",
        rows.concat()
    )
}

fn faults(report: &AuditReport) -> String {
    let rows: Vec<String> = report
        .faults
        .iter()
        .map(|seen| {
            format!(
                "<tr data-replica=\"{replica}\" data-kind=\"{kind}\" data-rows=\"{rows}\"><td class=\"time\">{at}</td><td>{region}</td>\
                 <td>{short}</td><td>{kind}{cosigned}</td><td class=\"number\">{rows}</td><td>{blob}</td><td class=\"what\">{what}</td></tr>\n",
                replica = text(&seen.replica),
                kind = text(&seen.kind),
                rows = seen.rows,
                at = utc(seen.at),
                region = text(&seen.region),
                short = hash(&seen.replica),
                cosigned = if seen.cosigned { ", cosigned" } else { "" },
                blob = seen.blob_id.as_deref().map_or_else(|| "a log".to_owned(), hash),
                what = text(&seen.message),
            )
        })
        .collect();
    let body = if rows.is_empty() {
        "<p class=\"none\">None.</p>\n".to_owned()
    } else {
        table("faults", &["seen", "region", "replica", "fault", "rows", "blob", "what"], &rows)
    };
    let more = match report.more_faults {
        0 => String::new(),
        more => format!("<p class=\"none\">And {} more.</p>\n", number(more)),
    };
    format!("<section class=\"card\">\n{}{body}{more}</section>\n", heading("Faults", ""))
}

fn blobs(report: &AuditReport) -> String {
    let regions = report.regions.len();
    let rows: Vec<String> =
        report.blobs.iter().take(MOST_BLOBS).map(|blob| blob_row(blob, regions)).collect();
    let body = if rows.is_empty() {
        "<p class=\"none\">None.</p>\n".to_owned()
    } else {
        table(
            "blob-table",
            &["blob", "bytes", "put", "expires", "log entry", "under", "copies", "rows", "payload hash"],
            &rows,
        )
    };
    let more = match report.blobs.len().saturating_sub(MOST_BLOBS) {
        0 => String::new(),
        more => format!("<p class=\"none\">And {} more, which da audit --json prints.</p>\n", number(more)),
    };
    format!(
        "<section class=\"card\">\n{}{body}{more}</section>\n",
        heading("Blobs", &format!("checked against {}", text(&report.basis)))
    )
}

fn blob_row(blob: &AuditedBlob, regions: usize) -> String {
    let first = blob.entries.first();
    let state = match () {
        () if blob.complete.len() == regions && blob.defect.is_none() => "complete",
        () if blob.incomplete.is_empty() && blob.defect.is_none() => "unreachable",
        () => "faulty",
    };
    let lacking = blob.incomplete.iter().chain(&blob.unreachable).map(|label| text(label));
    let lacking: Vec<String> = lacking.chain(blob.defect.iter().map(|defect| text(defect))).collect();
    let lacking = if lacking.is_empty() { String::new() } else { format!("<br>{}", lacking.join(", ")) };
    let at = |time: Option<u64>| time.map(utc).unwrap_or_default();
    format!(
        "<tr data-blob=\"{id}\" data-complete=\"{complete}\"><td>{short}</td><td class=\"number\">{length}</td>\
         <td class=\"time\">{put}</td><td class=\"time\">{expires}</td><td class=\"time\">{entry}</td><td>{under}</td>\
         <td><span class=\"state {state}\">{icon}{complete} of {regions}</span>{lacking}</td><td>{rows}</td><td>{hash}</td></tr>\n",
        id = text(&blob.blob_id),
        complete = blob.complete.len(),
        short = hash(&blob.blob_id),
        length = number(blob.length),
        put = at(first.map(|entry| entry.time)),
        expires = at(blob.entries.iter().map(|entry| entry.expiry).max()),
        entry = first.map_or_else(String::new, |entry| format!("{} in {}", entry.index, hash(&entry.log))),
        under = if first.is_some_and(|entry| entry.anchored) { "anchor" } else { "checkpoint" },
        icon = icon(state),
        rows = if blob.whole { "all" } else { "sampled" },
        hash = blob.payload_hash.as_deref().map_or_else(|| "-".to_owned(), hash),
    )
}

fn logs(logs: &[AuditedLog]) -> String {
    let rows: Vec<String> = logs
        .iter()
        .map(|log| {
            let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let anchor = log.anchored_block.zip(log.anchored_size);
            let problems: String = log.problems.iter().map(|problem| format!("<br>{}", text(problem))).collect();
            format!(
                "<tr data-log=\"{address}\" data-size=\"{size}\"><td>{short}</td><td class=\"number\">{size}</td><td>{root}</td>\
                 <td>{anchor}</td><td>{certified}</td><td>{regions}{problems}</td></tr>\n",
                address = text(&log.log),
                size = log.size,
                short = hash(&log.log),
                root = hash(&log.root),
                anchor = or_none(anchor.map(|(block, size)| format!("{size} entries in block {block}"))),
                certified = or_none(log.certified_size.zip(log.certified_timestamp).map(|(size, time)| {
                    format!("{size} entries, {}", utc(time))
                })),
                regions = text(&log.certified_regions.join(", ")),
            )
        })
        .collect();
    let heads =
        ["gateway", "entries", "root, computed again", "last anchor", "cosigned checkpoint", "cosigned in"];
    format!("<section class=\"card\">\n{}{}</section>\n", heading("Logs", ""), table("logs", &heads, &rows))
}

fn facts(report: &AuditReport) -> String {
    let mut list = String::new();
    let mut fact = |id: &str, name: &str, value: String| {
        let _ = writeln!(list, "<dt>{name}</dt><dd id=\"{id}\">{}</dd>", text(&value));
    };
    fact("basis", "Checked against", report.basis.clone());
    if let (Some(block), Some(time)) = (report.block, report.block_timestamp) {
        fact("block", "Chain read up to", format!("block {block}, {}", utc(time)));
    }
    let since = report.since.map_or_else(
        || "one blob, whenever it was put".to_owned(),
        |since| format!("put since {}, not expired", utc(since)),
    );
    fact("since", "Entries", format!("{} of {} logs, {since}", report.entries, report.logs.len()));
    let rows = if report.deep {
        "all rows of all blobs".to_owned()
    } else {
        format!("{} of each replica and blob at random, all of some blobs", report.samples)
    };
    fact("mode", "Rows", rows);
    fact("begun", "Begun", utc(report.begun));
    fact("ended", "Ended", utc(report.ended));
    fact("version", "Program", format!("da {}", report.version));
    format!("<section class=\"card\">\n{}<dl>\n{list}</dl>\n</section>\n", heading("How", ""))
}

#[cfg(test)]
mod tests;
