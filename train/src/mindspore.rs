//! Reads checkpoints as MindSpore saves them: a protobuf message of named tensors, by the field numbers of
//! [`checkpoint.proto`](https://gitee.com/mindspore/mindspore/blob/master/mindspore/ccsrc/utils/checkpoint.proto).
//!
//! Nothing is copied, and nothing is kept that the file does not hold itself, whatever its lengths claim.

use anyhow::{Context as _, bail, ensure};
use prost::encoding::{WireType, decode_key, decode_varint};

/// Most dimensions of a tensor: those of a bank of kernels.
const MAX_RANK: usize = 6;

/// The one element type that is read.
const FLOAT32: &str = "Float32";

/// A named tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Value<'f> {
    /// Its name.
    pub name: &'f str,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its element type, such as `Float32`.
    kind: &'f str,
    /// Its elements, little-endian.
    content: &'f [u8],
}

impl Value<'_> {
    /// Its elements.
    ///
    /// # Errors
    /// Other elements than `Float32`, or not as many as its shape has; names the tensor.
    pub fn floats(&self) -> anyhow::Result<Vec<f32>> {
        let Self { name, dims, kind, content } = self;
        ensure!(*kind == FLOAT32, "tensor `{name}`: elements are {kind:?}, expected {FLOAT32}");
        let len = dims.iter().try_fold(size_of::<f32>(), |len, &dim| len.checked_mul(dim));
        ensure!(
            len == Some(content.len()),
            "tensor `{name}`: {} bytes for {FLOAT32} {dims:?}",
            content.len()
        );
        Ok(content.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// The tensors of a checkpoint's bytes, in their order.
pub fn values(file: &[u8]) -> impl Iterator<Item = anyhow::Result<Value<'_>>> {
    let mut tensors = 0;
    Fields(file).map(move |field| match field? {
        (1, Field::Bytes(message)) => {
            tensors += 1;
            value(message).with_context(|| format!("tensor {tensors} of the file"))
        }
        (tag, _) => bail!("field {tag} beside the tensors: not a MindSpore checkpoint"),
    })
}

fn value(message: &[u8]) -> anyhow::Result<Value<'_>> {
    let (mut name, mut tensor) = (None, None);
    for field in Fields(message) {
        match field? {
            (1, Field::Bytes(text)) => name = Some(std::str::from_utf8(text).context("its name")?),
            (2, Field::Bytes(message)) => tensor = Some(message),
            (tag, _) => bail!("field {tag}, expected a name and a tensor"),
        }
    }
    let name = name.context("it has no name")?;
    let message = tensor.with_context(|| format!("tensor `{name}`: nothing but a name"))?;
    tensor_of(name, message).with_context(|| format!("tensor `{name}`"))
}

fn tensor_of<'f>(name: &'f str, message: &'f [u8]) -> anyhow::Result<Value<'f>> {
    let mut value = Value { name, dims: vec![], kind: "", content: &[] };
    let mut push = |dim: u64| {
        ensure!(value.dims.len() < MAX_RANK, "more than {MAX_RANK} dimensions");
        value.dims.push(usize::try_from(dim).context("its shape")?);
        Ok(())
    };
    for field in Fields(message) {
        match field? {
            (1, Field::Number(dim)) => push(dim)?,
            (1, Field::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    push(decode_varint(&mut packed).context("its shape")?)?;
                }
            }
            (2, Field::Bytes(text)) => {
                value.kind = std::str::from_utf8(text).context("its element type")?;
            }
            (3, Field::Bytes(content)) => value.content = content,
            (tag, _) => bail!("field {tag}, expected a shape, a type and elements"),
        }
    }
    Ok(value)
}

/// What a field of a message holds.
enum Field<'f> {
    Number(u64),
    Bytes(&'f [u8]),
    Other,
}

/// The fields of a message, with their numbers; ends with the first error.
struct Fields<'f>(&'f [u8]);

impl<'f> Fields<'f> {
    fn read(&mut self) -> anyhow::Result<(u32, Field<'f>)> {
        let (tag, wire) = decode_key(&mut self.0)?;
        let field = match wire {
            WireType::Varint => Field::Number(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut self.0)?;
                Field::Bytes(self.take(len)?)
            }
            WireType::ThirtyTwoBit => self.take(4).map(|_| Field::Other)?,
            WireType::SixtyFourBit => self.take(8).map(|_| Field::Other)?,
            wire => bail!("field {tag} is {wire:?}, which is nothing that MindSpore writes"),
        };
        Ok((tag, field))
    }

    fn take(&mut self, len: u64) -> anyhow::Result<&'f [u8]> {
        let left = self.0.len();
        let parts = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (taken, rest) =
            parts.with_context(|| format!("cut: {len} bytes were to follow, {left} do"))?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'f> Iterator for Fields<'f> {
    type Item = anyhow::Result<(u32, Field<'f>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read().context("not a MindSpore checkpoint");
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
