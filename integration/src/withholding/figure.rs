//! The figure: how many clients notice, and how many one adversary fools.

use std::fmt::Write as _;

use super::exact::real;

/// Clients with so many samples each, and adversaries who answer more and more rows.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Samples of each client.
    pub samples: usize,
    /// Shares of the rows that are answered, each with the share of clients that notice, as computed.
    pub computed: Vec<(f64, f64)>,
    /// The same as measured.
    pub measured: Vec<(f64, f64)>,
}

/// The adversary who answers the first K-1 rows that are asked for, on a blob of K data rows.
#[derive(Clone, Debug)]
pub struct Adaptive {
    /// K.
    pub data_rows: usize,
    /// For each number of samples: clients that are fooled at least, as computed, and as measured.
    pub points: Vec<(usize, f64, f64, f64)>,
}

/// Of lines, points and their names, light and dark: told apart also by who sees few colours.
const COLOURS: [(&str, &str); 4] =
    [("#0072b2", "#56b4e9"), ("#b34700", "#e69f00"), ("#007a5a", "#2fc79a"), ("#9c3d7a", "#e39cc8")];

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 440.0;
/// Upper and lower end of both plots.
const TOP: f64 = 84.0;
const BOTTOM: f64 = 370.0;

/// Where a number stands between two ends.
#[derive(Clone, Copy)]
struct Axis {
    numbers: (f64, f64),
    ends: (f64, f64),
}

impl Axis {
    fn at(&self, number: f64) -> f64 {
        let part = (number - self.numbers.0) / (self.numbers.1 - self.numbers.0);
        self.ends.0 + part * (self.ends.1 - self.ends.0)
    }
}

struct Drawing(String);

impl Drawing {
    fn add(&mut self, element: &str) {
        self.0.push_str(element);
        self.0.push('\n');
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x, y), (u, v)) = (from, to);
        self.add(&format!(r#"<line class="{class}" x1="{x:.1}" y1="{y:.1}" x2="{u:.1}" y2="{v:.1}"/>"#));
    }

    fn text(&mut self, class: &str, at: (f64, f64), anchor: &str, text: &str) {
        let (x, y) = at;
        self.add(&format!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    fn path(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let mut path = String::new();
        for (number, (x, y)) in points.into_iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { " L" });
        }
        self.add(&format!(r#"<path class="{class}" d="{path}"/>"#));
    }

    fn point(&mut self, class: &str, (x, y): (f64, f64)) {
        self.add(&format!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="3.6"/>"#));
    }

    /// The line at the left of a plot with what is named on it, and a faint line for each.
    fn upright(&mut self, x: (f64, f64), y: Axis, marks: &[(f64, &str)], name: &str) {
        for (number, text) in marks {
            let height = y.at(*number);
            self.line("grid", (x.0, height), (x.1, height));
            self.text("ink", (x.0 - 8.0, height + 4.0), "end", text);
        }
        let middle = f64::midpoint(TOP, BOTTOM);
        let left = x.0 - 46.0;
        self.add(&format!(
            r#"<text class="ink" transform="translate({left:.1} {middle:.1}) rotate(-90)" text-anchor="middle">{name}</text>"#
        ));
    }

    fn level(&mut self, x: Axis, marks: &[(f64, &str)], name: &str) {
        self.line("axis", (x.ends.0, BOTTOM), (x.ends.1, BOTTOM));
        for (number, text) in marks {
            let at = x.at(*number);
            self.line("axis", (at, BOTTOM), (at, BOTTOM + 5.0));
            self.text("ink", (at, BOTTOM + 20.0), "middle", text);
        }
        self.text("ink", (f64::midpoint(x.ends.0, x.ends.1), BOTTOM + 42.0), "middle", name);
    }
}

fn style() -> String {
    let mut light = String::from(
        "text{font:13px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}.title{font-size:15px;font-weight:600}\
         .small{font-size:12px}.ink,.title{fill:#1f2328}.small{fill:#59636e}.axis{stroke:#59636e}.grid{stroke:#d8dee4}\
         .mark{stroke:#59636e;stroke-dasharray:4 4}.shade{fill:#eceff2}path{fill:none;stroke-width:2}\
         .least{stroke-width:1.5;stroke-dasharray:2 4}",
    );
    let mut dark = String::from(
        ".ink,.title{fill:#e6edf3}.small{fill:#9198a1}.axis,.mark{stroke:#9198a1}.grid{stroke:#30363d}.shade{fill:#1c2128}",
    );
    for (number, (on_light, on_dark)) in COLOURS.iter().enumerate() {
        for (out, colour) in [(&mut light, on_light), (&mut dark, on_dark)] {
            let _ = write!(
                out,
                "path.c{number}{{stroke:{colour}}}circle.c{number},text.c{number}{{fill:{colour}}}"
            );
        }
    }
    format!("<style>{light}@media(prefers-color-scheme:dark){{{dark}}}</style>")
}

/// Draws both plots.
#[must_use]
pub fn svg(curves: &[Curve], adaptive: &[Adaptive], clients: usize, title: &str) -> String {
    let mut drawing = Drawing(String::new());
    drawing.add(&format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">"#
    ));
    drawing.add(&format!("<title>{title}</title>"));
    drawing.add(&style());
    noticed(&mut drawing, curves, clients);
    fooled(&mut drawing, adaptive, clients);
    drawing.add("</svg>");
    drawing.0
}

fn noticed(drawing: &mut Drawing, curves: &[Curve], clients: usize) {
    let x = Axis { numbers: (0.0, 1.0), ends: (70.0, 540.0) };
    let y = Axis { numbers: (0.0, 1.0), ends: (BOTTOM, TOP) };
    let (short, crooked) = (x.at(0.25), x.at(0.625));
    drawing.text("title", (x.ends.0, 26.0), "start", "Clients that notice, by how much is answered");
    drawing.text(
        "small",
        (x.ends.0, 46.0),
        "start",
        "lines: computed; points: measured; s: samples of each client",
    );
    drawing.add(&format!(
        r#"<rect class="shade" x="{:.1}" y="{TOP}" width="{:.1}" height="{:.1}"/>"#,
        x.ends.0,
        short - x.ends.0,
        BOTTOM - TOP
    ));
    let marks = [(0.0, "0"), (0.25, "25%"), (0.5, "50%"), (0.75, "75%"), (1.0, "100%")];
    drawing.upright(x.ends, y, &marks, &format!("share of {clients} clients that notice"));
    drawing.line("mark", (short, TOP), (short, BOTTOM));
    drawing.line("mark", (crooked, TOP - 2.0), (crooked, BOTTOM));
    drawing.text("small", (f64::midpoint(x.ends.0, short), TOP + 150.0), "middle", "fewer than K:");
    drawing.text("small", (f64::midpoint(x.ends.0, short), TOP + 166.0), "middle", "no payload");
    drawing.text("small", (crooked, TOP - 8.0), "middle", "all that verifies of a badly encoded blob");
    for (number, curve) in curves.iter().enumerate() {
        let place = |(share, part): &(f64, f64)| (x.at(*share), y.at(*part));
        drawing.path(&format!("c{number}"), curve.computed.iter().map(place));
        for point in &curve.measured {
            drawing.point(&format!("c{number}"), place(point));
        }
        // The lines are apart only where there is no room for their names.
        let key = (x.at(0.31), y.at(0.56 - 0.08 * real(number)));
        drawing.point(&format!("c{number}"), key);
        let name = format!("s = {}", curve.samples);
        drawing.text(&format!("c{number}"), (key.0 + 10.0, key.1 + 4.0), "start", &name);
    }
    let marks = [(0.0, "0"), (0.25, "25%"), (0.5, "50%"), (0.625, "62.5%"), (0.75, "75%"), (1.0, "100%")];
    drawing.level(x, &marks, "rows that the adversary answers");
}

fn fooled(drawing: &mut Drawing, adaptive: &[Adaptive], clients: usize) {
    let samples: Vec<usize> =
        adaptive.first().map(|one| one.points.iter().map(|point| point.0).collect()).unwrap_or_default();
    let (Some(fewest), Some(most)) = (samples.iter().min(), samples.iter().max()) else { return };
    let x = Axis { numbers: (real(*fewest).log2() - 0.3, real(*most).log2() + 0.3), ends: (650.0, 890.0) };
    let y = Axis { numbers: (0.0, real(clients).log10()), ends: (BOTTOM, TOP) };
    drawing.text("title", (x.ends.0, 26.0), "start", "Clients that one adversary fools");
    drawing.text("small", (x.ends.0, 46.0), "start", "who answers the first K-1 rows asked for;");
    drawing.text("small", (x.ends.0, 62.0), "start", "dotted: (K-1)/s, which it fools at least");
    drawing.upright(
        x.ends,
        y,
        &[(0.0, "1"), (1.0, "10"), (2.0, "100"), (3.0, "1000")],
        &format!("of {clients} clients, fooled"),
    );
    for (number, blob) in adaptive.iter().enumerate() {
        let at = |samples: usize, fooled: f64| (x.at(real(samples).log2()), y.at(fooled.max(1.0).log10()));
        let class = format!("c{number}");
        let least = blob.points.iter().map(|(samples, least, ..)| at(*samples, *least));
        drawing.path(&format!("least {class}"), least);
        drawing.path(&class, blob.points.iter().map(|(samples, _, computed, _)| at(*samples, *computed)));
        for (samples, _, _, measured) in &blob.points {
            drawing.point(&class, at(*samples, *measured));
        }
        if let Some((samples, _, computed, _)) = blob.points.last() {
            let (right, height) = at(*samples, *computed);
            drawing.text(&class, (right + 10.0, height + 4.0), "start", &format!("K = {}", blob.data_rows));
        }
    }
    let names: Vec<(f64, String)> =
        samples.iter().map(|count| (real(*count).log2(), count.to_string())).collect();
    let marks: Vec<(f64, &str)> = names.iter().map(|(at, name)| (*at, &**name)).collect();
    drawing.level(x, &marks, "samples of each client, s");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_measured_is_drawn_inside() {
        let curves: Vec<Curve> = [4, 8, 16, 32]
            .map(|samples| Curve {
                samples,
                computed: vec![(0.0, 1.0), (1.0, 0.0)],
                measured: vec![(0.25, 0.99), (0.5, 0.9)],
            })
            .into();
        let adaptive = [Adaptive { data_rows: 64, points: vec![(4, 15.0, 17.0, 18.0), (32, 1.0, 1.0, 0.0)] }];
        let svg = svg(&curves, &adaptive, 1_000, "a title");
        // Of each line a point stands beside its name.
        assert_eq!(svg.matches("<circle").count(), 4 * (2 + 1) + 2);
        assert_eq!(svg.matches("<path").count(), 4 + 2);
        // Places have a digit after the point, names of numbers have none.
        let words = svg.split([' ', '"', '(', ')', 'M', 'L']).filter(|word| word.contains('.'));
        let places: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
        assert!(places.len() > 100, "{}", places.len());
        for number in places {
            assert!((0.0..=WIDTH).contains(&number), "{number}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("href") && svg.trim_end().ends_with("</svg>"));
    }
}
