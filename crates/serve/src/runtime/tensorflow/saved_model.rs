//! The head of a SavedModel, read before TensorFlow is: which graph is served and how it is called.

use super::value;
use crate::proto::tensorflow::tensor_info::Encoding;
use crate::proto::tensorflow::{MetaGraphDef, SavedModel, SignatureDef, TensorInfo};
use crate::runtime::{Signature, Task};
use crate::tensor::Port;
use prost::Message as _;
use std::collections::HashMap;

/// What TensorFlow calls the graph that is served.
const SERVE: &str = "serve";
/// A signature of TensorFlow's own.
const INIT: &str = "__saved_model_init_op";

/// The graph to load.
pub(super) struct Head {
    pub(super) tags: Vec<String>,
    pub(super) signatures: Vec<Named>,
    /// Signatures that cannot be served, with the reason.
    pub(super) left_out: Vec<String>,
}

/// A signature with the graph's names of its inputs and outputs.
pub(super) struct Named {
    pub(super) signature: Signature,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Head, String> {
    let model = SavedModel::decode(bytes)
        .map_err(|error| format!("it is no SavedModel, or it is cut off: {error}"))?;
    let tags = |graph: &MetaGraphDef| -> Vec<String> {
        let info = graph.meta_info_def.as_ref();
        info.map(|info| info.tags.clone()).unwrap_or_default()
    };
    let exact = |graph: &&MetaGraphDef| tags(graph) == [SERVE];
    let among = |graph: &&MetaGraphDef| tags(graph).iter().any(|tag| tag == SERVE);
    let graphs = &model.meta_graphs;
    let only = (graphs.len() == 1).then(|| &graphs[0]);
    let graph = graphs.iter().find(exact);
    let graph = graph.or_else(|| graphs.iter().find(among)).or(only);
    let graph = graph.ok_or_else(|| match graphs.len() {
        0 => "it holds no graph".to_owned(),
        n => format!("it holds {n} graphs and none has the tag `{SERVE}`"),
    })?;
    let mut signatures = Vec::new();
    let mut left_out = Vec::new();
    for (name, def) in &graph.signature_def {
        if name == INIT || (def.inputs.is_empty() && def.outputs.is_empty()) {
            continue;
        }
        match named(name, def) {
            Ok(signature) => signatures.push(signature),
            Err(reason) => left_out.push(format!("signature `{name}`: {reason}")),
        }
    }
    if signatures.is_empty() {
        let reasons = left_out.join("; ");
        return Err(format!("it has no signature to call; {reasons}")
            .trim_end_matches("; ")
            .to_owned());
    }
    signatures.sort_by(|a, b| a.signature.name.cmp(&b.signature.name));
    Ok(Head {
        tags: tags(graph),
        signatures,
        left_out,
    })
}

fn named(name: &str, def: &SignatureDef) -> Result<Named, String> {
    let (inputs, input_names) = ports(&def.inputs)?;
    let (outputs, output_names) = ports(&def.outputs)?;
    if outputs.is_empty() {
        return Err("it has no output".to_owned());
    }
    Ok(Named {
        signature: Signature {
            name: name.to_owned(),
            method: def.method_name.clone(),
            inputs,
            outputs,
            columns: crate::runtime::Columns::default(),
            task: Task::Other,
            is_row_wise: false,
        },
        inputs: input_names,
        outputs: output_names,
    })
}

/// In the order of their names.
fn ports(infos: &HashMap<String, TensorInfo>) -> Result<(Vec<Port>, Vec<String>), String> {
    let mut sorted: Vec<(&String, &TensorInfo)> = infos.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut ports = Vec::new();
    let mut names = Vec::new();
    for (name, info) in sorted {
        let Some(Encoding::Name(tensor)) = &info.encoding else {
            return Err(format!(
                "`{name}` is sparse or composite, which no protocol carries"
            ));
        };
        let datatype = value::datatype(info.dtype).ok_or_else(|| {
            format!(
                "`{name}` is of a type that no protocol carries ({})",
                info.dtype
            )
        })?;
        let shape = info
            .tensor_shape
            .as_ref()
            .filter(|shape| !shape.unknown_rank)
            .map(|shape| shape.dim.iter().map(|dim| dim.size.max(-1)).collect());
        ports.push(Port {
            name: name.clone(),
            datatype,
            shape,
        });
        names.push(tensor.clone());
    }
    Ok((ports, names))
}
