//! A scenario as a picture.

use plotters::prelude::*;

use super::scenarios::Scenario;

/// Told apart by those who are colour-blind as well (Okabe and Ito).
const WITHOUT: RGBColor = RGBColor(213, 94, 0);
const OTHERS: [RGBColor; 2] = [RGBColor(110, 110, 110), RGBColor(0, 158, 115)];
const OURS: RGBColor = RGBColor(0, 114, 178);

const SIZE: (u32, u32) = (800, 360);

pub(crate) fn svg(scenario: &Scenario) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    let plot = &scenario.plot;
    let series: Vec<_> = scenario
        .variants
        .iter()
        .map(|variant| variant.series(plot.value))
        .collect();
    let buckets = series[0].len();
    let width = scenario.variants[0].report.width().as_secs_f64();
    let end = buckets as f64 * width;
    let most = series.iter().flatten().map(|(_, y)| *y).fold(0.0, f64::max);
    let top = most * scenario.headroom;
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        // A ground of its own, so that it is legible on pages of any colour.
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(scenario.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..end, -0.02 * most..top)?;
        chart.draw_series(scenario.trouble.iter().map(|(from, to)| {
            let corners = [(*from as f64, -0.02 * most), (*to as f64, top)];
            Rectangle::new(corners, RGBColor(240, 228, 200).filled())
        }))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_labels(7)
            .y_labels(6)
            .x_desc("seconds")
            .y_desc(plot.y)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style(("sans-serif", 13))
            .draw()?;
        for ((variant, series), colour) in scenario
            .variants
            .iter()
            .zip(series)
            .zip(colours(scenario.variants.len()))
        {
            let line = chart.draw_series(LineSeries::new(series, colour.stroke_width(2)))?;
            line.label(variant.label).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3))
            });
        }
        chart
            .configure_series_labels()
            .position(scenario.legend.clone())
            .background_style(WHITE.mix(0.9))
            .border_style(RGBColor(180, 180, 180))
            .label_font(("sans-serif", 13))
            .draw()?;
        root.present()?;
    }
    Ok(svg)
}

/// Without a policy first, with ours last.
fn colours(variants: usize) -> impl Iterator<Item = RGBColor> {
    let others = OTHERS.into_iter().take(variants.saturating_sub(2));
    std::iter::once(WITHOUT).chain(others).chain([OURS])
}
