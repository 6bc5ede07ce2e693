//! `serve.trees`: our evaluator beside the C libraries that made the models, in one process and one thread, by turns.
//! Processor time of this thread is what counts: the machine may do other things.

use super::c_trees::{Lightgbm, Peer, Xgboost};
use super::models::{self, Framework, Made};
use super::native::thread_cpu_s;
use crate::report::{Better, Figure, Report};
use crate::{Failure, Scale, note};
use std::path::Path;
use trees::{Format, Iterations, Kind, Matrix, Model, Options};

const N_ROWS: usize = 1_000;
const OPTIONS: Options = Options {
    kind: Kind::Value,
    iterations: Iterations::All,
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let made = models::make(Framework::Xgboost, scale)?;
    let n_cols = made.rows()?.len() / N_ROWS;
    let library = Path::new(made.said.trim());
    let mut xgboost = Xgboost::load(library, &made.model(), n_cols)?;
    beside(
        report,
        scale,
        &made,
        "XGBoost's C library",
        [6.0, 1.0],
        &mut xgboost,
    )?;
    if scale == Scale::Smoke {
        return Ok(());
    }
    let made = models::make(Framework::Lightgbm, scale)?;
    let library = Path::new(made.said.trim());
    let mut lightgbm = Lightgbm::load(library, &made.model(), n_cols)?;
    beside(
        report,
        scale,
        &made,
        "LightGBM's C library",
        [2.0, 1.0],
        &mut lightgbm,
    )
}

/// One row a call, and a thousand; `aims` are how many times as quick we shall be.
fn beside(
    report: &mut Report,
    scale: Scale,
    made: &Made,
    name: &'static str,
    aims: [f64; 2],
    peer: &mut dyn Peer,
) -> Result<(), Failure> {
    let model = Model::read(&std::fs::read(made.model())?)?;
    let rows = made.rows()?;
    let wide: Vec<f64> = rows.iter().map(|value| f64::from(*value)).collect();
    let n_cols = model.n_features();
    let is_single = model.format() == Format::Xgboost;
    let mut ours = |rows: &[f32], wide: &[f64], out: &mut Vec<f64>| -> Result<(), Failure> {
        let matrix = if is_single {
            Matrix::F32(rows)
        } else {
            Matrix::F64(wide)
        };
        Ok(model.predict(matrix, n_cols, OPTIONS, out)?)
    };
    let mut theirs = |rows: &[f32], wide: &[f64], out: &mut Vec<f64>| peer.predict(rows, wide, out);
    let (mut got, mut wanted) = (Vec::new(), Vec::new());
    ours(&rows, &wide, &mut got)?;
    theirs(&rows, &wide, &mut wanted)?;
    for ((got, wanted), answer) in got.iter().zip(&wanted).zip(&made.answers) {
        models::same(*got, *wanted)?;
        models::same(*got, *answer)?;
    }
    let n_rounds = scale.pick(1, 40, 200);
    for (n_rows, aim) in [(1, aims[0]), (N_ROWS, aims[1])] {
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        for _ in 0..n_rounds {
            our_times.push(round(&mut ours, &rows, &wide, n_cols, n_rows)?);
            their_times.push(round(&mut theirs, &rows, &wide, n_cols, n_rows)?);
        }
        let [ours_us, theirs_us] = [median(our_times), median(their_times)];
        let trees = format!("{} trees", model.n_trees());
        let case = format!("{name}: {trees}, {n_rows} rows a call");
        note(format!("{case}: {theirs_us:.1} µs, ours {ours_us:.1} µs"));
        let time = Figure::new(&case, "call_us", ours_us, "µs", Better::Lower);
        report.add(time.beside(name, theirs_us))?;
        report.add(
            Figure::ratio(&case, theirs_us / ours_us)
                .beside(name, 1.0)
                .aim(aim),
        )?;
    }
    Ok(())
}

/// Predicts rows, given in both widths.
type Predict<'a> = dyn FnMut(&[f32], &[f64], &mut Vec<f64>) -> Result<(), Failure> + 'a;

/// Every row once, so many at a time: what a call takes of the processor, in microseconds. Each row is another one, so that no branch can be learnt by heart.
fn round(
    predict: &mut Predict<'_>,
    rows: &[f32],
    wide: &[f64],
    n_cols: usize,
    n_rows: usize,
) -> Result<f64, Failure> {
    let mut out = Vec::with_capacity(n_rows);
    let step = n_rows * n_cols;
    let before = thread_cpu_s();
    for (rows, wide) in rows.chunks_exact(step).zip(wide.chunks_exact(step)) {
        out.clear();
        predict(rows, wide, &mut out)?;
    }
    let n_calls = rows.len() / step;
    Ok((thread_cpu_s() - before) / n_calls as f64 * 1e6)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
