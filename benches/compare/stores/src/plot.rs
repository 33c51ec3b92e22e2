//! Plots of a file of results, as SVG.
//!
//! ```text
//!   throughput.svg, cpu.svg, memory.svg    bars: a panel for each setting, a bar for each engine
//!   growth.svg                             CPU of an update over the number of keys, where runs have several
//!   latency.svg                            what share of the blocks was durable within which time
//! ```
//!
//! No background, and colours that can be told from white and from black, so that they fit pages of either kind.

use crate::{
    Failure,
    results::{Read, Runs, Setting, settings, short},
    run::Figures,
    workload::Changes,
};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use std::{collections::BTreeMap, fmt::Display, path::Path};

/// Of text, axes and frames.
const GRAY: RGBColor = RGBColor(0x76, 0x7e, 0x88);
/// Of engines, in the order in which they come, ours first.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0x2d, 0x9d, 0x5f),
    RGBColor(0xc9, 0x5d, 0x3a),
    RGBColor(0x3f, 0x83, 0xd6),
    RGBColor(0xa8, 0x68, 0xc9),
    RGBColor(0xb0, 0x8a, 0x1e),
    RGBColor(0x1f, 0x97, 0xa8),
    RGBColor(0xd0, 0x55, 0x8b),
    RGBColor(0x7d, 0x8c, 0x3a),
    RGBColor(0x8a, 0x7a, 0x6d),
    RGBColor(0x6a, 0x6f, 0xd0),
];
const FONT: &str = "sans-serif";
const WIDTH: u32 = 760;

/// Draws the plots that the runs have figures for into the directory `into`; their names.
///
/// # Errors
/// [`Failure::Plot`].
pub fn plots(runs: &[Figures], into: &Path) -> Result<Vec<&'static str>, Failure> {
    let settings = settings(runs);
    let engines = names(&settings);
    let mut drawn = vec![];
    let bars: [(&'static str, &'static str, Bars); 3] = [
        ("throughput.svg", "changes per second, until durable (more is better)", |run| {
            Some(run.update.as_ref()?.ops_s)
        }),
        ("cpu.svg", "microseconds of CPU per change, all threads (less is better)", |run| {
            Some(run.update.as_ref()?.cpu_us)
        }),
        (
            "memory.svg",
            "peak of resident memory, MB of 10^6 bytes, without the driver (less is better)",
            |run| run.rss_peak_mb,
        ),
    ];
    for (name, title, read) in bars {
        if draw_bars(&into.join(name), name, title, &settings, &engines, &read)? {
            drawn.push(name);
        }
    }
    if draw_growth(&into.join(GROWTH), &settings, &engines)? {
        drawn.push(GROWTH);
    }
    if draw_latency(&into.join(LATENCY), &settings, &engines)? {
        drawn.push(LATENCY);
    }
    Ok(drawn)
}

const GROWTH: &str = "growth.svg";
const LATENCY: &str = "latency.svg";

type Bars = fn(&Figures) -> Option<f64>;
type Settings<'a> = [(Setting, Vec<Runs<'a>>)];

/// All engines, ours first, with their colours, which are the same in all plots.
fn names<'a>(settings: &Settings<'a>) -> Vec<(&'a str, RGBColor)> {
    let mut names: Vec<&str> = vec![];
    for runs in settings.iter().flat_map(|(_, engines)| engines) {
        if !names.contains(&runs.engine) {
            names.push(runs.engine);
        }
    }
    names.into_iter().zip(COLOURS.into_iter().cycle()).collect()
}

fn colour(engines: &[(&str, RGBColor)], name: &str) -> RGBColor {
    engines.iter().find(|(engine, _)| *engine == name).map_or(GRAY, |(_, colour)| *colour)
}

fn failed(name: &'static str) -> impl Fn(&dyn Display) -> Failure {
    move |reason| Failure::Plot { name, reason: reason.to_string() }
}

fn style(size: i32, horizontal: HPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&GRAY).pos(Pos::new(horizontal, VPos::Center))
}

/// One panel below the other; `false` if there is no figure.
fn draw_bars(
    path: &Path,
    name: &'static str,
    title: &str,
    settings: &Settings<'_>,
    engines: &[(&str, RGBColor)],
    read: Read<'_>,
) -> Result<bool, Failure> {
    let panels: Vec<(String, Vec<(&str, f64)>)> = settings
        .iter()
        .map(|(setting, runs)| {
            let bars = runs.iter().filter_map(|runs| Some((runs.engine, runs.spread(read)?.mid)));
            (setting.words(), bars.collect::<Vec<_>>())
        })
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    if panels.is_empty() {
        return Ok(false);
    }
    const ROW: i32 = 20;
    let rows: usize = panels.iter().map(|(_, bars)| bars.len() + 2).sum();
    let height = ROW * rows as i32 + 34;
    let failed = failed(name);
    let area = SVGBackend::new(path, (WIDTH, height.unsigned_abs())).into_drawing_area();
    let text = |words: &str, x: i32, y: i32, style: &TextStyle<'_>| {
        area.draw_text(words, style, (x, y)).map_err(|error| failed(&error))
    };
    text(title, 10, 16, &style(18, HPos::Left))?;
    let mut y = 34;
    for (words, bars) in &panels {
        text(words, 10, y + ROW / 2, &style(16, HPos::Left))?;
        y += ROW;
        let most = bars.iter().map(|(_, figure)| *figure).fold(f64::MIN_POSITIVE, f64::max);
        for (engine, figure) in bars {
            let length = (figure / most * 480.0).round().max(1.0) as i32;
            text(engine, 150, y + ROW / 2, &style(16, HPos::Right))?;
            let bar = [(158, y + 3), (158 + length, y + ROW - 3)];
            let bar = Rectangle::new(bar, colour(engines, engine).filled());
            area.draw(&bar).map_err(|error| failed(&error))?;
            text(&label(*figure), 164 + length, y + ROW / 2, &style(16, HPos::Left))?;
            y += ROW;
        }
        y += ROW;
    }
    area.present().map_err(|error| failed(&error))?;
    Ok(true)
}

/// Three digits.
fn label(figure: f64) -> String {
    match figure {
        1e7.. => format!("{:.0} M", figure / 1e6),
        1e6..1e7 => format!("{:.2} M", figure / 1e6),
        1e3..1e6 => format!("{:.0} k", figure / 1e3),
        100.0..1e3 => format!("{figure:.0}"),
        10.0..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Points of each engine.
type Lines<'a> = BTreeMap<&'a str, Vec<(f64, f64)>>;

/// CPU of an update over keys, of the block size that has most numbers of keys.
fn draw_growth(
    path: &Path,
    settings: &Settings<'_>,
    engines: &[(&str, RGBColor)],
) -> Result<bool, Failure> {
    let mut kinds: BTreeMap<u64, Vec<&(Setting, Vec<Runs<'_>>)>> = BTreeMap::new();
    for setting in settings.iter().filter(|(setting, _)| setting.changes == Changes::Update) {
        kinds.entry(setting.0.block_ops).or_default().push(setting);
    }
    let sizes = |kind: &Vec<&(Setting, _)>| {
        let mut keys: Vec<_> = kind.iter().map(|(setting, _)| setting.keys).collect();
        keys.dedup();
        keys.len()
    };
    let Some((block_ops, kind)) = kinds.iter().max_by_key(|(_, kind)| sizes(kind)) else {
        return Ok(false);
    };
    if sizes(kind) < 2 {
        return Ok(false);
    }
    let mut lines = Lines::new();
    for (setting, runs) in kind {
        for runs in runs {
            let read = |run: &Figures| Some(run.update.as_ref()?.cpu_us);
            if let Some(spread) = runs.spread(&read) {
                let line = lines.entry(runs.engine).or_default();
                line.push((setting.keys as f64, spread.mid));
            }
        }
    }
    if lines.is_empty() {
        return Ok(false);
    }
    let axes = Axes {
        name: GROWTH,
        title: format!(
            "CPU of an update over the number of keys, blocks of {} (less is better)",
            short(*block_ops)
        ),
        x: "keys",
        y: "microseconds of CPU per update",
        log_x: true,
        x_label: |keys| label(keys),
    };
    draw_lines(path, axes, &lines, engines)?;
    Ok(true)
}

/// Until blocks of the update phase are durable, of the largest setting that most engines have.
fn draw_latency(
    path: &Path,
    settings: &Settings<'_>,
    engines: &[(&str, RGBColor)],
) -> Result<bool, Failure> {
    let with_updates = settings.iter().filter(|(setting, _)| setting.blocks > 0);
    let Some((setting, runs)) = with_updates.max_by_key(|(_, runs)| runs.len()) else {
        return Ok(false);
    };
    let mut lines = Lines::new();
    for runs in runs {
        let at = |step: usize| {
            let read =
                |run: &Figures| run.update.as_ref()?.durable_ms.every_5_percent.get(step).copied();
            Some((step as f64 * 5.0, runs.spread(&read)?.mid))
        };
        lines.insert(runs.engine, (0..=20).filter_map(at).collect());
    }
    if lines.values().all(Vec::is_empty) {
        return Ok(false);
    }
    let axes = Axes {
        name: LATENCY,
        title: format!("until a block is durable: {} (less is better)", setting.words()),
        x: "per cent of the blocks, at most so long",
        y: "milliseconds",
        log_x: false,
        x_label: |percent| format!("{percent:.0}"),
    };
    draw_lines(path, axes, &lines, engines)?;
    Ok(true)
}

struct Axes {
    name: &'static str,
    title: String,
    x: &'static str,
    y: &'static str,
    log_x: bool,
    x_label: fn(f64) -> String,
}

/// Edges of the frame of lines.
const LEFT: i32 = 60;
const RIGHT: i32 = WIDTH as i32 - 150;
const TOP: i32 = 62;
const BOTTOM: i32 = 350;

/// Logarithms of 1, 2 and 5 times powers of ten, between two logarithms.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = low.floor() as i32..=high.ceil() as i32;
    let ticks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(decade)));
    ticks.map(f64::log10).filter(|tick| (low..=high).contains(tick)).collect()
}

/// Lines over a logarithmic axis of y, and whose they are to the right of their ends.
fn draw_lines(
    path: &Path,
    axes: Axes,
    lines: &Lines<'_>,
    engines: &[(&str, RGBColor)],
) -> Result<(), Failure> {
    let failed = failed(axes.name);
    let area = SVGBackend::new(path, (WIDTH, 400)).into_drawing_area();
    let title = style(18, HPos::Left);
    area.draw_text(&axes.title, &title, (10, 16)).map_err(|error| failed(&error))?;
    let points = || lines.values().flatten();
    let bounds = |pick: fn(&(f64, f64)) -> f64| {
        let least = points().map(pick).fold(f64::INFINITY, f64::min);
        let most = points().map(pick).fold(0.0, f64::max);
        (least, most)
    };
    let ((x_least, x_most), (y_least, y_most)) = (bounds(|point| point.0), bounds(|point| point.1));
    let (y_least, y_most) = ((y_least * 0.8).max(1e-3), (y_most * 1.25).max(2e-3));
    // Zero has no logarithm; x of a logarithmic axis is a number of keys.
    let x_of = move |x: f64| if axes.log_x { x.max(1.0).log10() } else { x };
    let y_of = move |y: f64| y.max(y_least).log10();
    let (from, to) = (x_of(x_least), x_of(x_most));
    let (low, high) = (y_of(y_least), y_of(y_most));
    let x_ticks = match axes.log_x {
        true => ticks(from, to),
        false => (0..=10).map(|tenth| from + (to - from) * f64::from(tenth) / 10.0).collect(),
    };
    let place = |x: f64, y: f64| {
        let part = |value: f64, low: f64, high: f64| (value - low) / (high - low).max(1e-9);
        let x = f64::from(LEFT) + part(x, from, to) * f64::from(RIGHT - LEFT);
        let y = f64::from(BOTTOM) - part(y, low, high) * f64::from(BOTTOM - TOP);
        (x.round() as i32, y.round() as i32)
    };
    let text = |words: &str, at: (i32, i32), style: &TextStyle<'_>| {
        area.draw_text(words, style, at).map_err(|error| failed(&error))
    };
    let path = |points: Vec<(i32, i32)>, style: ShapeStyle| {
        area.draw(&PathElement::new(points, style)).map_err(|error| failed(&error))
    };
    let faint = GRAY.mix(0.3).stroke_width(1);
    for tick in x_ticks {
        let (x, _) = place(tick, low);
        path(vec![(x, TOP), (x, BOTTOM)], faint)?;
        let words = (axes.x_label)(if axes.log_x { 10_f64.powf(tick) } else { tick });
        text(&words, (x, BOTTOM + 14), &style(15, HPos::Center))?;
    }
    for tick in ticks(low, high) {
        let (_, y) = place(from, tick);
        path(vec![(LEFT, y), (RIGHT, y)], faint)?;
        text(&label(10_f64.powf(tick)), (LEFT - 8, y), &style(15, HPos::Right))?;
    }
    path(vec![(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], GRAY.stroke_width(1))?;
    text(axes.x, ((LEFT + RIGHT) / 2, BOTTOM + 36), &style(15, HPos::Center))?;
    text(axes.y, (10, TOP - 16), &style(15, HPos::Left))?;
    // Names at the ends of their lines, moved down where they would be one over the other.
    let mut ends: Vec<(i32, &str)> = vec![];
    for (name, points) in lines {
        let drawn: Vec<_> = points.iter().map(|(x, y)| place(x_of(*x), y_of(*y))).collect();
        let ink = colour(engines, name);
        for at in &drawn {
            let dot = Circle::new(*at, 2, ink.filled());
            area.draw(&dot).map_err(|error| failed(&error))?;
        }
        if let Some((_, y)) = drawn.last() {
            ends.push((*y, name));
        }
        path(drawn, ink.stroke_width(2))?;
    }
    ends.sort_unstable();
    let mut free = 0;
    for (y, name) in ends {
        let y = y.max(free);
        free = y + 16;
        let ink = colour(engines, name);
        text(name, (RIGHT + 10, y), &style(16, HPos::Left).color(&ink))?;
    }
    area.present().map_err(|error| failed(&error))
}
