//! `serve.start`: from the start of the process until it says that its model can be used, and what it holds then.

use super::models::{self, Framework};
use super::peers::{self, MLSERVER};
use super::process;
use crate::report::{Better, Figure, Report};
use crate::samples::Samples;
use crate::{Failure, Scale, note};

const QUICK_MS: f64 = 150.0;
const TENSORFLOW_MS: f64 = 1_500.0;
const TREES_MB: f64 = 40.0;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let frameworks = [
        (Framework::Xgboost, "trees", QUICK_MS),
        (Framework::Onnx, "ONNX", QUICK_MS),
        (Framework::Tensorflow, "TensorFlow", TENSORFLOW_MS),
    ];
    for (framework, name, aim) in frameworks {
        let made = models::make(framework, scale)?;
        let dir = tempfile::tempdir()?;
        let repository = dir.path().join("models");
        made.publish(&repository.join("model"), 1)?;
        let is_trees = framework == Framework::Xgboost;
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        let (mut our_mb, mut their_mb) = (0.0, 0.0);
        // One is not counted: it reads programs and libraries from the disk.
        for turn in 0..=scale.pick(1, 7, 20) {
            let server = process::moonshot(&repository, &[])?;
            our_mb = server.usage().rss_mb;
            let our_start = server.started_in;
            drop(server);
            let mut their_start = None;
            if is_trees && scale != Scale::Smoke {
                let server = peers::mlserver(&made, &dir.path().join("mlserver"))?;
                their_mb = server.usage().rss_mb;
                their_start = Some(server.started_in);
            }
            if turn > 0 {
                ours.push(our_start);
                their_start.into_iter().for_each(|took| theirs.push(took));
            }
        }
        let case = format!("{name}, from the start until ready");
        note(format!("{case}: {:.0} ms", ours.percentile(50.0)));
        for (metric, percent) in [("p50_ms", 50.0), ("max_ms", 100.0)] {
            let mut figure = Figure::ms(&case, metric, ours.percentile(percent));
            if theirs.len() > 0 {
                figure = figure.beside(MLSERVER, theirs.percentile(percent));
            }
            report.add(if percent < 100.0 {
                figure.aim(aim)
            } else {
                figure
            })?;
        }
        let case = format!("{name}, ready");
        let mut rss = Figure::new(case, "rss_mb", our_mb, "MB", Better::Lower);
        if theirs.len() > 0 {
            rss = rss.beside(MLSERVER, their_mb);
        }
        report.add(if is_trees { rss.aim(TREES_MB) } else { rss })?;
    }
    Ok(())
}
