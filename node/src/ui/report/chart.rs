//! The report's chart: the chosen config's bits per byte over time, and every experiment as a dot.
//!
//! What the experiments came to is in [`Story`]; here it is only drawn.

use autoswarm_protocol::{Experiment, Verdict};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::Story;
use crate::base::words;

/// Width and height of the chart, pixels.
const SIZE: (u32, u32) = (960, 480);
const KEEP: RGBColor = RGBColor(0x1b, 0x87, 0x3f);
const DISCARD: RGBColor = RGBColor(0x9a, 0xa0, 0xa6);
const CRASH: RGBColor = RGBColor(0xc6, 0x28, 0x28);
/// Longest label of a keep, columns of text.
const LABEL: usize = 44;

/// A dot: minutes since the start, and bits per byte.
type Point = (f64, f64);

/// What is drawn, in minutes since the start of the baseline and in bits per byte.
#[derive(Debug, Clone, PartialEq)]
struct Picture {
    /// The chosen config's level whenever it changed: minutes, bits per byte, standard error.
    path: Vec<(f64, f64, f64)>,
    keeps: Vec<(Point, String)>,
    discards: Vec<Point>,
    /// When experiments crashed; they have no value.
    crashes: Vec<f64>,
    /// When the last experiment ended.
    minutes: f64,
}

/// Returns the chart of a story as SVG; none where the baseline has no value.
pub fn svg(story: &Story) -> Option<String> {
    let picture = Picture::of(story)?;
    let mut text = String::new();
    // A string takes every byte, so drawing cannot fail.
    picture.draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area()).ok()?;
    Some(text)
}

impl Picture {
    fn of(story: &Story) -> Option<Self> {
        let baseline = story.baseline();
        let mut level = baseline.mean_validation()?;
        let minutes = |at: u64| at.saturating_sub(baseline.started_at) as f64 / 60.0;
        let mut picture = Self {
            path: vec![(minutes(baseline.finished_at), level, 0.0)],
            keeps: Vec::new(),
            discards: Vec::new(),
            crashes: Vec::new(),
            minutes: minutes(baseline.finished_at),
        };
        let mut error: f64 = 0.0;
        for experiment in &story.experiments[1..] {
            let at = minutes(experiment.finished_at);
            picture.minutes = picture.minutes.max(at);
            match &experiment.verdict {
                Verdict::Baseline | Verdict::Reproduction { .. } => {}
                Verdict::Keep { estimate, .. } => {
                    // Kept gains add up, and their standard errors as squares.
                    level += estimate.delta;
                    error = error.hypot(estimate.standard_error);
                    picture.path.push((at, level, error));
                    picture.keeps.push(((at, level), label(experiment)));
                }
                Verdict::Discard { estimate, screened, .. } => {
                    let delta = estimate.map(|estimate| estimate.delta).or(*screened);
                    picture.discards.extend(delta.map(|delta| (at, level + delta)));
                }
                Verdict::Crash { .. } => picture.crashes.push(at),
            }
        }
        Some(picture)
    }

    /// Returns the lowest and the highest value shown: the path with its errors, a sixth of that range below
    /// it and a third above, but at least 0.01 and 0.02. Losers are many and far away, so they are drawn at
    /// the upper edge.
    fn range(&self) -> (f64, f64) {
        let low = self.path.iter().map(|(_, level, error)| level - error).fold(f64::MAX, f64::min);
        let high = self.path.iter().map(|(_, level, error)| level + error).fold(f64::MIN, f64::max);
        let margin = ((high - low) / 3.0).max(0.02);
        (low - margin / 2.0, high + margin)
    }

    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&WHITE)?;
        let (low, high) = self.range();
        let end = self.minutes.max(1.0) * 1.02;
        let caption =
            ("Bits per byte on validation: the chosen config ± se, and every experiment", ("sans-serif", 17));
        let mut chart = ChartBuilder::on(area)
            .caption(caption.0, caption.1)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..end, low..high)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(0xe6, 0xe6, 0xe6))
            .x_desc("minutes")
            .y_desc("val_bpb (lower is better)")
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| format!("{value:.2}"))
            .label_style(("sans-serif", 13))
            .draw()?;
        let (steps, band) = self.steps(end);
        chart.draw_series([Polygon::new(band, KEEP.mix(0.15))])?;
        chart.draw_series(LineSeries::new(steps, KEEP.stroke_width(2)))?;
        let inside = |(at, value): Point| (at, value.clamp(low, high));
        chart.draw_series(
            self.discards.iter().map(|&point| Circle::new(inside(point), 3, DISCARD.mix(0.8).filled())),
        )?;
        chart.draw_series(self.crashes.iter().map(|&at| Cross::new((at, high), 4, CRASH)))?;
        chart.draw_series(self.keeps.iter().map(|&(point, _)| Circle::new(point, 5, KEEP.filled())))?;
        for ((at, level), label) in &self.keeps {
            // In the right half a label stands to the left of its dot, so that it stays inside the chart.
            let before = *at > end / 2.0;
            let anchor = if before { HPos::Right } else { HPos::Left };
            let style = ("sans-serif", 12).into_font().color(&BLACK.mix(0.75));
            let style = style.pos(Pos::new(anchor, VPos::Top));
            let offset = if before { -6 } else { 6 };
            chart.draw_series([
                EmptyElement::at((*at, *level)) + Text::new(label.clone(), (offset, 5), style)
            ])?;
        }
        area.present()
    }

    /// Returns the path as stairs up to `end`, and the outline of the band that its standard errors make
    /// around it.
    fn steps(&self, end: f64) -> (Vec<Point>, Vec<Point>) {
        let (mut line, mut upper, mut lower) = (Vec::new(), Vec::new(), Vec::new());
        for (index, &(at, level, error)) in self.path.iter().enumerate() {
            let until = self.path.get(index + 1).map_or(end, |next| next.0);
            for at in [at, until] {
                line.push((at, level));
                upper.push((at, level + error));
                lower.push((at, level - error));
            }
        }
        upper.extend(lower.into_iter().rev());
        (line, upper)
    }
}

/// Returns a keep's label: the number of the experiment and its change.
fn label(experiment: &Experiment) -> String {
    let patch = words::clean(&experiment.hypothesis.patch.to_string());
    words::fit(&format!("#{} {patch}", experiment.number), LABEL)
}
