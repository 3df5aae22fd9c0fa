//! Names, shapes and initial values of a net's tensors.

use std::fmt;

/// Initial value of a tensor before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in ±bound.
    Uniform(f64),
    /// Every element the same.
    Constant(f64),
}

/// One tensor that a net needs.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Full name, parts separated by dots.
    pub name: String,
    /// Its exact shape.
    pub shape: Vec<usize>,
    /// Its value before training.
    pub init: Init,
}

impl TensorSpec {
    /// A spec of these parts.
    pub fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), init }
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F32 {:?}", self.shape)
    }
}
