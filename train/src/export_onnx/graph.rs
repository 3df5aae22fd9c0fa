//! An ONNX graph in the making.

use crate::onnx::{self, Attribute, Dimension, FLOAT, INT64};

/// A graph that grows node by node; each method returns the name of the value it made.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) graph: onnx::Graph,
}

impl Builder {
    /// One node with one output; node and output are called `name`.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[Attribute],
    ) -> String {
        self.graph.node.push(onnx::Node {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![name.into()],
            name: name.into(),
            op_type: op.into(),
            attribute: attributes.to_vec(),
        });
        name.into()
    }

    fn constant(&mut self, name: &str, data_type: i32, dims: &[usize], bytes: Vec<u8>) -> String {
        self.graph.initializer.push(onnx::Tensor {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type,
            name: name.into(),
            raw_data: Some(bytes.into()),
            ..Default::default()
        });
        name.into()
    }

    pub(super) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, FLOAT, dims, bytes)
    }

    pub(super) fn integers(&mut self, name: &str, values: &[usize]) -> String {
        let bytes = values.iter().flat_map(|&v| (v as i64).to_le_bytes()).collect();
        self.constant(name, INT64, &[values.len()], bytes)
    }

    pub(super) fn input(&mut self, name: &str, element: i32, dims: &[Dimension], doc: &str) {
        self.graph.input.push(value_info(name, element, dims, doc));
    }

    pub(super) fn output(&mut self, name: &str, element: i32, dims: &[Dimension], doc: &str) {
        self.graph.output.push(value_info(name, element, dims, doc));
    }
}

fn value_info(name: &str, elem_type: i32, dims: &[Dimension], doc: &str) -> onnx::ValueInfo {
    let shape = Some(onnx::TensorShape { dim: dims.to_vec() });
    let tensor_type = Some(onnx::TensorType { elem_type, shape });
    let r#type = Some(onnx::Type { tensor_type });
    onnx::ValueInfo { name: name.into(), r#type, doc_string: doc.into() }
}
