//! What sampling is worth: how many light clients notice that rows are withheld, beside the bounds that they report.
//! Prints a table, and writes it and a figure into the documents when it is told to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{Table, presets};
use meridian_integration::load::report::size;
use meridian_integration::random::Random;
use meridian_integration::withholding::exact::{Choices, first_asked, mean, real};
use meridian_integration::withholding::figure::{self, Adaptive, Curve};
use meridian_integration::withholding::{Adversary, simulate};
use meridian_integration::{knobs, page};
use meridian_proofs::sampling::{bound_misencoded, bound_unavailable, fooled_clients};
use meridian_proofs::shape::{PayloadLength, Shape};

/// Payloads, in bytes: of a batch that fills an L1 blob, and longer ones.
const PAYLOADS: [usize; 3] = [130_000, 1 << 20, 32 << 20];
/// The payload of the first plot.
const PLOTTED: usize = 1 << 20;
const SAMPLES: [usize; 4] = [4, 8, 16, 32];
/// One client in so many is favoured.
const FAVOURED: usize = 10;
/// Points of a line that is measured, and of one that is computed.
const MEASURED: usize = 16;
const COMPUTED: usize = 128;

/// Measures how many light clients notice that rows are withheld.
#[derive(Debug, Parser)]
#[command(name = "withholding", version)]
struct Arguments {
    /// Light clients.
    #[arg(long, default_value_t = 1_000)]
    clients: usize,
    /// Page whose table is replaced; the figure is written beside it, with the ending svg.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

fn shape(bytes: usize) -> Result<Shape> {
    Ok(Shape::of(PayloadLength::try_from(u64::try_from(bytes)?)?))
}

fn name(adversary: Adversary) -> String {
    match adversary {
        Adversary::Random(_) => "K-1 rows at random".to_owned(),
        Adversary::OneShort => "the first K-1 rows".to_owned(),
        Adversary::Favours(one_in) => format!("all rows, to one client in {one_in}"),
        Adversary::FirstAsked => "the first K-1 rows asked for".to_owned(),
    }
}

/// How many clients are expected to notice.
fn expected(shape: Shape, samples: usize, clients: usize, adversary: Adversary) -> f64 {
    let fooled = match adversary {
        Adversary::Random(answers) => {
            real(clients)
                * Choices::new(shape.total_rows()).all_answered(shape.total_rows(), answers, samples)
        }
        Adversary::OneShort => real(clients) * bound_unavailable(shape, samples, samples),
        Adversary::Favours(one_in) => real(clients.div_ceil(one_in)),
        Adversary::FirstAsked => mean(&first_asked(shape, samples, clients)),
    };
    real(clients) - fooled
}

fn measure(clients: usize, random: &mut Random) -> Result<(String, Vec<Adaptive>)> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let header = ["payload", "K", "answered is"].map(str::to_owned).into_iter();
    table.set_header(header.chain(SAMPLES.map(|samples| format!("s = {samples}"))));
    let mut adaptive = Vec::new();
    for bytes in PAYLOADS {
        let shape = shape(bytes)?;
        let short = shape.data_rows() - 1;
        for adversary in [
            Adversary::Random(short),
            Adversary::OneShort,
            Adversary::Favours(FAVOURED),
            Adversary::FirstAsked,
        ] {
            let mut row = vec![size(bytes), shape.data_rows().to_string(), name(adversary)];
            let mut points = Vec::new();
            for samples in SAMPLES {
                let outcome = simulate(shape, samples, clients, adversary, random)?;
                let expected = expected(shape, samples, clients, adversary);
                let given = if outcome.given > short { "; K rows are out" } else { "" };
                row.push(format!("{} ({expected:.1}){given}", outcome.noticed()));
                let least = fooled_clients(shape, samples).min(clients);
                points.push((samples, real(least), real(clients) - expected, real(outcome.fooled)));
            }
            table.add_row(row);
            if adversary == Adversary::FirstAsked {
                adaptive.push(Adaptive { data_rows: shape.data_rows(), points });
            }
        }
    }
    Ok((table.to_string(), adaptive))
}

fn bounds() -> Result<String> {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "payload",
        "K",
        "s, all of which verified",
        "if it could not be had: at most",
        "if it were badly encoded: at most",
        "clients fooled at least",
    ]);
    for bytes in PAYLOADS {
        let shape = shape(bytes)?;
        for samples in SAMPLES {
            table.add_row([
                size(bytes),
                shape.data_rows().to_string(),
                samples.to_string(),
                format!("{:.1e}", bound_unavailable(shape, samples, samples)),
                format!("{:.1e}", bound_misencoded(shape, samples, samples)),
                fooled_clients(shape, samples).to_string(),
            ]);
        }
    }
    Ok(table.to_string())
}

/// How many clients notice adversaries who answer more and more rows at random.
fn curves(clients: usize, random: &mut Random) -> Result<Vec<Curve>> {
    let shape = shape(PLOTTED)?;
    let total = shape.total_rows();
    let choices = Choices::new(total);
    let mut curves = Vec::new();
    for samples in SAMPLES {
        let computed = (0..=COMPUTED).map(|part| {
            let answers = total * part / COMPUTED;
            let fooled = if answers < samples { 0.0 } else { choices.all_answered(total, answers, samples) };
            (real(answers) / real(total), 1.0 - fooled)
        });
        let mut measured = Vec::new();
        for part in 1..MEASURED {
            // One short of a quarter, where it matters.
            let answers = total * part / MEASURED - usize::from(part * 4 == MEASURED);
            let outcome = simulate(shape, samples, clients, Adversary::Random(answers), random)?;
            measured.push((real(answers) / real(total), real(outcome.noticed()) / real(clients)));
        }
        curves.push(Curve { samples, computed: computed.collect(), measured });
    }
    Ok(curves)
}

fn write(page: &Path, table: &str, svg: &str) -> Result<()> {
    page::record(page, "withholding", table)?;
    let figure = page.with_extension("svg");
    fs::write(&figure, svg).with_context(|| format!("writing {}", figure.display()))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seed = knobs::seed()?;
    let mut random = Random::new(seed);
    let clients = arguments.clients.max(1);
    let (measured, adaptive) = measure(clients, &mut random)?;
    let table = format!(
        "Clients that notice, of {clients}, and in brackets how many should (seed {seed}):\n\n{measured}\n\n\
         What one client may claim when all of its samples verify:\n\n{}",
        bounds()?
    );
    println!("{table}");
    if let Some(page) = &arguments.record {
        let title = "How many light clients notice that rows of a blob of 1 MiB are withheld, and how many are fooled";
        write(page, &table, &figure::svg(&curves(clients, &mut random)?, &adaptive, clients, title))?;
    }
    Ok(())
}
