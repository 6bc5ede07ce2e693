//! TensorFlow Serving's warm-up file: records of requests that are run before the model is ready
//! (<https://www.tensorflow.org/tfx/serving/saved_model_warmup>).

use super::{DEFAULT, FirstRun, LoadError, Signature};
use crate::error::{Result, ServeError};
use crate::examples;
use crate::proto::tensorflow::serving::input::Kind;
use crate::proto::tensorflow::serving::prediction_log::LogType;
use crate::proto::tensorflow::serving::{Input, ModelSpec, PredictionLog};
use crate::tensor_proto;
use bytes::{Buf, Bytes};
use prost::Message as _;
use std::path::Path;

/// Where it is in a version's directory.
const FILE: &str = "assets.extra/tf_serving_warmup_requests";
/// Records that are run, as in TensorFlow Serving.
const RECORDS_MAX: usize = 1_000;
/// A record: its length, a check of that, itself, a check of it.
const CHECK: usize = 4;

/// Bytes of it that are read.
const FILE_MAX: u64 = 1 << 30;

/// What a version's file has; nothing where there is none.
pub(super) fn file(dir: &Path) -> std::result::Result<Bytes, LoadError> {
    let path = dir.join(FILE);
    let read = |error: std::io::Error| LoadError::Read(path.clone(), error.to_string());
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Bytes::new()),
        Err(error) => return Err(read(error)),
        Ok(known) if known.len() > FILE_MAX => {
            return Err(LoadError::Model(
                FILE.to_owned(),
                format!("it is larger than {FILE_MAX} bytes; record fewer requests"),
            ));
        }
        Ok(_) => {}
    }
    std::fs::read(&path).map(Bytes::from).map_err(read)
}

/// The runs that a file asks for.
pub(super) fn read(bytes: Bytes, signatures: &[Signature]) -> Result<Vec<FirstRun>> {
    let wrong = |text: &str| ServeError::invalid(format!("`{FILE}`: {text}"));
    let mut rest = bytes;
    let mut runs = Vec::new();
    while !rest.is_empty() {
        if runs.len() == RECORDS_MAX {
            return Err(wrong(&format!("it has more than {RECORDS_MAX} records")));
        }
        if rest.len() < 8 + CHECK {
            return Err(wrong("it is cut off"));
        }
        let length = usize::try_from(rest.get_u64_le()).unwrap_or(usize::MAX);
        rest.advance(CHECK);
        if length > rest.len().saturating_sub(CHECK) {
            return Err(wrong("it is cut off"));
        }
        let record = rest.split_to(length);
        rest.advance(CHECK);
        let log = PredictionLog::decode(record)
            .map_err(|error| wrong(&format!("a record is no PredictionLog: {error}")))?;
        run(log, signatures, &mut runs)?;
    }
    Ok(runs)
}

fn run(log: PredictionLog, signatures: &[Signature], runs: &mut Vec<FirstRun>) -> Result<()> {
    let mut add = |spec: Option<&ModelSpec>, inputs: &dyn Fn(&Signature) -> Result<Vec<_>>| {
        let name = spec.map_or("", |spec| spec.signature_name.as_str());
        let name = if name.is_empty() { DEFAULT } else { name };
        let at = signatures
            .iter()
            .position(|signature| signature.name == name)
            .ok_or_else(|| ServeError::invalid(format!("`{FILE}`: no signature `{name}`")))?;
        runs.push(FirstRun {
            signature: at,
            inputs: inputs(&signatures[at])?,
            may_refuse: false,
        });
        Ok(())
    };
    match log.log_type {
        Some(LogType::PredictLog(log)) => {
            let request = log.request.unwrap_or_default();
            add(request.model_spec.as_ref(), &|_| {
                let inputs = request.inputs.iter();
                inputs
                    .map(|(name, proto)| tensor_proto::read(name, proto.clone()))
                    .collect()
            })
        }
        Some(LogType::ClassifyLog(log)) => {
            let request = log.request.unwrap_or_default();
            add(request.model_spec.as_ref(), &|signature| {
                by_examples(signature, request.input.clone())
            })
        }
        Some(LogType::RegressLog(log)) => {
            let request = log.request.unwrap_or_default();
            add(request.model_spec.as_ref(), &|signature| {
                by_examples(signature, request.input.clone())
            })
        }
        Some(LogType::MultiInferenceLog(log)) => {
            let request = log.request.unwrap_or_default();
            request.tasks.iter().try_for_each(|task| {
                add(task.model_spec.as_ref(), &|signature| {
                    by_examples(signature, request.input.clone())
                })
            })
        }
        None => Ok(()),
    }
}

/// Inputs of a signature from the message of examples.
pub(crate) fn by_examples(
    signature: &Signature,
    input: Option<Input>,
) -> Result<Vec<crate::tensor::Tensor>> {
    match input.and_then(|input| input.kind) {
        Some(Kind::ExampleList(list)) => examples::inputs(signature, list.examples, None),
        Some(Kind::ExampleListWithContext(list)) => {
            examples::inputs(signature, list.examples, list.context)
        }
        None => Err(ServeError::invalid(
            "`input` is missing: a list of examples is expected",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tensorflow::serving::{PredictLog, PredictRequest};
    use crate::runtime::{PREDICT, Task};
    use crate::tensor::{Data, Datatype, Port, Tensor};
    use std::collections::HashMap;

    fn record() -> Vec<u8> {
        let tensor = Tensor {
            name: "x".to_owned(),
            datatype: Datatype::F32,
            shape: vec![1],
            data: Data::F32(vec![0.5]),
        };
        let request = PredictRequest {
            inputs: HashMap::from([("x".to_owned(), tensor_proto::write(&tensor))]),
            ..PredictRequest::default()
        };
        let log = PredictionLog {
            log_type: Some(LogType::PredictLog(PredictLog {
                request: Some(request),
            })),
        };
        let log = log.encode_to_vec();
        [&log.len().to_le_bytes(), &[0; 4][..], &log, &[0; 4]].concat()
    }

    fn signature(name: &str) -> Signature {
        Signature {
            name: name.to_owned(),
            method: PREDICT.to_owned(),
            inputs: vec![Port {
                name: "x".to_owned(),
                datatype: Datatype::F32,
                shape: Some(vec![-1]),
            }],
            outputs: Vec::new(),
            columns: crate::runtime::Columns::default(),
            task: Task::Other,
            is_row_wise: true,
        }
    }

    #[test]
    fn records_become_runs() {
        let bytes = Bytes::from(record().repeat(3));
        let runs = read(bytes, &[signature("other"), signature(DEFAULT)]).unwrap();
        assert_eq!(runs.len(), 3);
        assert_eq!(runs[0].signature, 1);
        assert_eq!(runs[0].inputs[0].data, Data::F32(vec![0.5]));
        assert!(!runs[0].may_refuse);
    }

    #[test]
    fn broken_files_say_what_is_wrong() {
        let whole = record();
        for at in 1..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..at]);
            let error = read(cut, &[signature(DEFAULT)]).map(drop).unwrap_err();
            assert!(error.text.contains("it is cut off"), "{at}: {}", error.text);
        }
        let refused = |bytes: Vec<u8>, name: &str, wanted: &str| {
            let error = read(bytes.into(), &[signature(name)]).map(drop);
            let error = error.unwrap_err().text;
            assert!(error.contains(wanted), "{error}");
        };
        refused(
            whole.repeat(RECORDS_MAX + 1),
            DEFAULT,
            "more than 1000 records",
        );
        refused(whole.clone(), "other", "no signature `serving_default`");
        let huge = [&[0xff; 8], &whole[8..]].concat();
        refused(huge, DEFAULT, "it is cut off");
        let mut noise = whole;
        noise[12..].fill(0xff);
        refused(noise, DEFAULT, "a record is no PredictionLog");
    }
}
