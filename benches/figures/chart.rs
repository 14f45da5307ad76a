use std::fmt::Write;

use crate::quantity::count;

/// Curves over one pair of axes, both logarithmic.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Panel {
    /// What was done.
    pub(crate) title: String,
    /// What there is more of to the right.
    pub(crate) unit: String,
    /// Three at most.
    pub(crate) curves: Vec<Curve>,
}

/// What one tool took at each size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    /// For the legend.
    pub(crate) name: String,
    /// Size, seconds; sizes rise, nothing is zero.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 340.0;
/// Of the axes inside a panel.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 84.0;
/// Colours that stay apart for the colour-blind; the shape of the line says it again.
const STYLES: [&str; 3] = [
    "stroke=\"#767676\" stroke-dasharray=\"7 4\"",
    "stroke=\"#0b62b0\" stroke-dasharray=\"2 3\"",
    "stroke=\"#c2410c\"",
];

/// The logarithm's range on an axis, and where it is drawn.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }
}

/// A picture of all panels, side by side.
pub(crate) fn svg(panels: &[Panel]) -> String {
    let width = WIDTH * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({} 0)\">", WIDTH * index as f64);
        draw(&mut svg, panel);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Writing to a string does not fail.
fn draw(svg: &mut String, panel: &Panel) {
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = points().map(of).fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value.log10()), high.max(value.log10()))
        });
        (low, high)
    };
    let (small, big) = bounds(|point| point.0);
    let (quick, slow) = bounds(|point| point.1);
    let x = Axis { low: small - 0.1, high: big + 0.1, from: LEFT, to: WIDTH - RIGHT };
    // whole decades, one at least
    let (low, high) = (quick.floor(), slow.ceil().max(quick.floor() + 1.0));
    let y = Axis { low, high, from: HEIGHT - BOTTOM, to: TOP };

    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"24\" font-weight=\"bold\">{}</text>", panel.title);
    for decade in low as i32..=high as i32 {
        let at = y.place(10f64.powi(decade));
        let seconds = 10f64.powi(decade);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{seconds} s</text>",
            x.from,
            x.to,
            x.from - 6.0,
            at + 4.0
        );
    }
    for (size, _) in panel.curves.first().into_iter().flat_map(|curve| &curve.points) {
        let at = x.place(*size);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {:.1}v5\" stroke=\"#222\"/><text x=\"{at:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{}</text>",
            y.from,
            y.from + 18.0,
            count(*size as u64)
        );
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{:.1} {:.1}V{:.1}H{:.1}\" stroke=\"#222\" fill=\"none\"/><text x=\"{:.1}\" y=\"{:.1}\" \
         text-anchor=\"middle\">{}</text>",
        x.from,
        y.to,
        y.from,
        x.to,
        f64::midpoint(x.from, x.to),
        y.from + 36.0,
        panel.unit
    );
    for (index, (curve, style)) in panel.curves.iter().zip(STYLES).enumerate() {
        let line: Vec<String> = curve
            .points
            .iter()
            .map(|(size, took)| format!("{:.1},{:.1}", x.place(*size), y.place(*took)))
            .collect();
        let legend = (x.from + 126.0 * index as f64, HEIGHT - 22.0);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke-width=\"2.5\" {style}/>",
            line.join(" ")
        );
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {:.1}h26\" stroke-width=\"2.5\" {style}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            legend.0,
            legend.1,
            legend.0 + 32.0,
            legend.1 + 4.0,
            curve.name
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel() -> Panel {
        let curve = |name: &str, factor: f64| Curve {
            name: name.to_owned(),
            points: [1e4, 1e5, 1e6].map(|size| (size, size * factor)).to_vec(),
        };
        Panel {
            title: "files".to_owned(),
            unit: "small files".to_owned(),
            curves: vec![curve("rsync", 1e-5), curve("cold", 6e-6), curve("warm", 2e-6)],
        }
    }

    #[test]
    fn what_is_proportional_is_a_straight_line_inside_the_axes() {
        let svg = svg(&[panel(), panel()]);
        let lines: Vec<&str> =
            svg.split("<polyline points=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(lines.len(), 6);
        for line in lines {
            let points: Vec<(f64, f64)> = line
                .split(' ')
                .map(|point| point.split_once(',').expect("x,y"))
                .map(|(x, y)| (x.parse().expect("x"), y.parse().expect("y")))
                .collect();
            let inside = |(x, y): &(f64, f64)| {
                (LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y)
            };
            assert!(points.len() == 3 && points.iter().all(inside), "{line}");
            let rise = |from: (f64, f64), to: (f64, f64)| (from.1 - to.1) / (to.0 - from.0);
            assert!((rise(points[0], points[1]) - rise(points[1], points[2])).abs() < 0.01, "{line}");
        }
    }

    #[test]
    fn every_tag_that_is_opened_is_closed() {
        let svg = svg(&[panel()]);
        for tag in ["svg", "g", "text"] {
            let opened = svg.matches(&format!("<{tag}")).count();
            assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
