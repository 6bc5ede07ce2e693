//! A life as a picture: one HTML file without scripts that any browser shows.
//!
//! Three plots over the same time: GPUs held by queue on top of each other under the capacity; work that
//! waits by queue, and the longest wait; each queue's share of what is held. Every plot has its values
//! in a table below for those who do not see colours.

use crate::life::{Outcome, Sample};
use crate::waits::{Waits, hours, jain};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Plots are this wide and high inside their axes.
const WIDE: f64 = 900.0;
const HIGH: f64 = 220.0;
/// Room for the axis on the left, and below.
const LEFT: f64 = 70.0;
const BELOW: f64 = 34.0;
const ABOVE: f64 = 14.0;
/// More points than pixels show nothing more.
const POINTS_MAX: usize = 450;
/// Queues with a colour of their own; the rest is grey and counted together.
const COLOURS: [&str; 8] = [
    "#4269d0", "#efb118", "#3ca951", "#ff725c", "#a463f2", "#6cc5b0", "#9c6b4e", "#ff8ab7",
];
const GREY: &str = "#9498a0";

struct Axis {
    begin: f64,
    end: f64,
    top: f64,
}

impl Axis {
    fn x(&self, hour: f64) -> f64 {
        LEFT + (hour - self.begin) / (self.end - self.begin).max(1e-9) * WIDE
    }
    fn y(&self, value: f64) -> f64 {
        ABOVE + HIGH * (1.0 - (value / self.top).min(1.0))
    }
}

/// A line or an area by its values at the samples.
struct Series {
    name: String,
    colour: &'static str,
    values: Vec<f64>,
}

/// The page.
pub(crate) fn page(title: &str, outcome: &Outcome) -> String {
    let samples = thin(&outcome.samples);
    let mut text = String::new();
    let title = escape(title);
    let _ = write!(
        text,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\n\
         body{{font:15px/1.45 system-ui,sans-serif;margin:24px auto;max-width:1010px;color:#1c1e21;background:#fff}}\n\
         h1{{font-size:22px}}h2{{font-size:16px;margin:28px 0 4px}}svg{{display:block;width:100%;height:auto}}\n\
         text{{font:12px system-ui,sans-serif;fill:#444}}.grid{{stroke:#e3e5e8}}.axis{{stroke:#888}}\n\
         .key span{{display:inline-block;margin-right:16px}}.key i{{display:inline-block;width:12px;height:12px;\
         border-radius:2px;margin-right:5px;vertical-align:-1px}}\n\
         table{{border-collapse:collapse;margin:8px 0}}td,th{{padding:3px 12px;text-align:right;border-bottom:1px solid #e3e5e8}}\
         td:first-child,th:first-child{{text-align:left}}\n</style></head><body>\n<h1>{title}</h1>\n"
    );
    let Some((first, last)) = samples.first().zip(samples.last()) else {
        text += "<p>Nothing was sampled.</p></body></html>\n";
        return text;
    };
    let begin = first.at;
    let hour = |sample: &Sample| hours(sample.at.since(begin));
    let xs: Vec<f64> = samples.iter().map(|sample| hour(sample)).collect();
    let axis = |top: f64| Axis {
        begin: 0.0,
        end: hours(last.at.since(begin)).max(1e-6),
        top: nice(top),
    };
    summary(&mut text, outcome);

    let queues = queues(&samples);
    let held = series(&samples, &queues, |sample, queue| {
        sample.used.get(queue).copied().unwrap_or(0) as f64 / 1_000.0
    });
    let capacity: Vec<f64> = samples
        .iter()
        .map(|sample| sample.capacity as f64 / 1_000.0)
        .collect();
    text += "<h2>GPUs held, by queue</h2>\n";
    key(&mut text, &held);
    let most = capacity.iter().copied().fold(1.0, f64::max);
    stacked(&mut text, &axis(most), &xs, &held, Some(&capacity), "GPUs");

    let waiting = series(&samples, &queues, |sample, queue| {
        sample.waiting.get(queue).copied().unwrap_or(0) as f64
    });
    let longest = Series {
        name: "hours that the longest wait has lasted".to_owned(),
        colour: "#1c1e21",
        values: samples.iter().map(|sample| hours(sample.longest)).collect(),
    };
    text += "<h2>Work that waits, by queue</h2>\n";
    key(&mut text, &waiting);
    let most = (0..xs.len()).map(|at| waiting.iter().map(|one| one.values[at]).sum::<f64>());
    stacked(
        &mut text,
        &axis(most.fold(1.0, f64::max)),
        &xs,
        &waiting,
        None,
        "tasks",
    );
    text += "<h2>The longest wait</h2>\n";
    let most = longest.values.iter().copied().fold(0.1, f64::max);
    lines(&mut text, &axis(most), &xs, &[longest], "hours");

    let total: Vec<f64> = (0..xs.len())
        .map(|at| held.iter().map(|one| one.values[at]).sum())
        .collect();
    let shares: Vec<Series> = held
        .iter()
        .map(|one| Series {
            name: one.name.clone(),
            colour: one.colour,
            values: one
                .values
                .iter()
                .zip(&total)
                .map(|(held, all)| if *all > 0.0 { held * 100.0 / all } else { 0.0 })
                .collect(),
        })
        .collect();
    text += "<h2>Share of what is held, by queue</h2>\n";
    key(&mut text, &shares);
    lines(&mut text, &axis(100.0), &xs, &shares, "%");
    table(&mut text, outcome, &samples, &queues);
    text += "</body></html>\n";
    text
}

fn thin(samples: &[Sample]) -> Vec<&Sample> {
    let step = samples.len().div_ceil(POINTS_MAX).max(1);
    samples.iter().step_by(step).collect()
}

/// Queues by what they held, the largest first.
fn queues(samples: &[&Sample]) -> Vec<String> {
    let names: BTreeSet<&String> = samples
        .iter()
        .flat_map(|sample| sample.used.keys().chain(sample.waiting.keys()))
        .collect();
    let mut sums: Vec<(u64, String)> = names
        .into_iter()
        .map(|name| {
            let held = samples.iter().filter_map(|sample| sample.used.get(name));
            (held.sum(), name.clone())
        })
        .collect();
    sums.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    sums.into_iter().map(|(_, name)| name).collect()
}

fn series(
    samples: &[&Sample],
    queues: &[String],
    value: impl Fn(&Sample, &str) -> f64,
) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for (at, queue) in queues.iter().enumerate() {
        let values: Vec<f64> = samples.iter().map(|sample| value(sample, queue)).collect();
        match COLOURS.get(at) {
            Some(colour) => all.push(Series {
                name: queue.clone(),
                colour,
                values,
            }),
            None => match all.get_mut(COLOURS.len()) {
                Some(rest) => {
                    for (sum, value) in rest.values.iter_mut().zip(values) {
                        *sum += value;
                    }
                }
                None => all.push(Series {
                    name: format!("{} others", queues.len() - COLOURS.len()),
                    colour: GREY,
                    values,
                }),
            },
        }
    }
    all
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps
        .into_iter()
        .find(|step| value <= step * power * 1.000_001);
    step.unwrap_or(10.0) * power
}

fn frame(text: &mut String, axis: &Axis, unit: &str) {
    let _ = writeln!(
        text,
        "<svg viewBox=\"0 0 {} {}\" role=\"img\">",
        LEFT + WIDE + 30.0,
        ABOVE + HIGH + BELOW
    );
    for step in 0..=4 {
        let value = axis.top * f64::from(step) / 4.0;
        let y = axis.y(value);
        let _ = writeln!(
            text,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}{}</text>",
            LEFT + WIDE,
            LEFT - 8.0,
            y + 4.0,
            short(value),
            if step == 4 {
                format!(" {unit}")
            } else {
                String::new()
            }
        );
    }
    // Whole days where there are many, else whole hours.
    let span = axis.end - axis.begin;
    let steps = [
        0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 48.0, 168.0, 336.0, 672.0,
    ];
    let step = steps
        .into_iter()
        .find(|step| span / step <= 12.0)
        .unwrap_or(1_344.0);
    let mut hour = 0.0;
    while hour <= span + 1e-9 {
        let x = axis.x(hour);
        let label = if step >= 24.0 {
            format!("day {}", short(hour / 24.0))
        } else {
            format!("{} h", short(hour))
        };
        let _ = writeln!(
            text,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            ABOVE + HIGH,
            ABOVE + HIGH + 5.0,
            ABOVE + HIGH + 20.0
        );
        hour += step;
    }
    let _ = writeln!(
        text,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
        LEFT + WIDE,
        ABOVE + HIGH,
        ABOVE + HIGH
    );
}

/// Steps, as the state stays what it is until the next sample.
fn path(axis: &Axis, xs: &[f64], values: &[f64]) -> String {
    let mut text = String::new();
    let mut before: Option<f64> = None;
    for (x, value) in xs.iter().zip(values) {
        let (x, y) = (axis.x(*x), axis.y(*value));
        if let Some(before) = before {
            let _ = write!(text, "L{x:.1} {before:.1}");
        }
        let _ = write!(
            text,
            "{}{x:.1} {y:.1}",
            if before.is_none() { "M" } else { "L" }
        );
        before = Some(y);
    }
    text
}

fn stacked(
    text: &mut String,
    axis: &Axis,
    xs: &[f64],
    series: &[Series],
    limit: Option<&[f64]>,
    unit: &str,
) {
    frame(text, axis, unit);
    let mut tops: Vec<Vec<f64>> = Vec::new();
    let mut sum = vec![0.0; xs.len()];
    for one in series {
        for (sum, value) in sum.iter_mut().zip(&one.values) {
            *sum += value;
        }
        tops.push(sum.clone());
    }
    let (first, last) = (
        xs.first().copied().unwrap_or(0.0),
        xs.last().copied().unwrap_or(0.0),
    );
    for (one, top) in series.iter().zip(&tops).rev() {
        let _ = writeln!(
            text,
            "<path d=\"{}L{:.1} {:.1}L{:.1} {:.1}Z\" fill=\"{}\"><title>{}</title></path>",
            path(axis, xs, top),
            axis.x(last),
            axis.y(0.0),
            axis.x(first),
            axis.y(0.0),
            one.colour,
            escape(&one.name)
        );
    }
    if let Some(limit) = limit {
        let _ = writeln!(
            text,
            "<path d=\"{}\" fill=\"none\" stroke=\"#1c1e21\" stroke-dasharray=\"5 3\"><title>all</title></path>",
            path(axis, xs, limit)
        );
    }
    *text += "</svg>\n";
}

fn lines(text: &mut String, axis: &Axis, xs: &[f64], series: &[Series], unit: &str) {
    frame(text, axis, unit);
    for one in series {
        let _ = writeln!(
            text,
            "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"><title>{}</title></path>",
            path(axis, xs, &one.values),
            one.colour,
            escape(&one.name)
        );
    }
    *text += "</svg>\n";
}

fn key(text: &mut String, series: &[Series]) {
    *text += "<div class=\"key\">";
    for one in series {
        let _ = write!(
            text,
            "<span><i style=\"background:{}\"></i>{}</span>",
            one.colour,
            escape(&one.name)
        );
    }
    *text += "</div>\n";
}

fn summary(text: &mut String, outcome: &Outcome) {
    let waits = Waits::of(outcome);
    let started = outcome
        .works
        .iter()
        .filter(|(_, fate)| fate.started.is_some())
        .count();
    let evictions: u64 = outcome.evictions.values().sum();
    let _ = writeln!(
        text,
        "<p>{} pieces of work, {started} started. Mean wait {:.2} h, p99 {:.2} h, longest {:.2} h. \
         {:.1} % of GPU time held. {evictions} stopped for others.</p>",
        outcome.works.len(),
        waits.mean_h,
        waits.p99_h,
        waits.max_h,
        waits.utilisation_percent
    );
}

fn table(text: &mut String, outcome: &Outcome, samples: &[&Sample], queues: &[String]) {
    *text += "<h2>By queue</h2>\n<table><tr><th>queue</th><th>work</th><th>mean wait, h</th><th>p99 wait, h</th>\
              <th>GPUs held, mean</th><th>waiting, mean</th></tr>\n";
    let n = samples.len().max(1) as f64;
    let mut held_all = Vec::new();
    for queue in queues {
        let of = |number: usize| outcome.works[number].0.spec.queue == *queue;
        let waits = Waits::among(outcome, of);
        let count = outcome
            .works
            .iter()
            .filter(|(work, _)| work.spec.queue == *queue)
            .count();
        let held: u64 = samples
            .iter()
            .filter_map(|sample| sample.used.get(queue))
            .sum();
        let waiting: u64 = samples
            .iter()
            .filter_map(|sample| sample.waiting.get(queue))
            .sum();
        held_all.push(held as f64);
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{count}</td><td>{:.2}</td><td>{:.2}</td><td>{:.1}</td><td>{:.1}</td></tr>",
            escape(queue),
            waits.mean_h,
            waits.p99_h,
            held as f64 / 1_000.0 / n,
            waiting as f64 / n
        );
    }
    let _ = writeln!(
        text,
        "</table>\n<p>Jain's index of what queues held: {:.2}.</p>",
        jain(&held_all)
    );
}

fn short(value: f64) -> String {
    let text = if value.abs() >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    };
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
