//! Tiles of a tensor: what is computed at once, and what that needs around it.

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;
use crate::nn::{Colour, Io, Reach};

/// Part of a tensor: what it makes, and what it reads for that; each as rows and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows and columns of the input that it makes the output of.
    pub(super) makes: [Range<usize>; 2],
    /// Rows and columns of the input that it reads.
    pub(super) reads: [Range<usize>; 2],
}

impl Tile {
    /// What it reads of `[N, C, H, W]`.
    pub(super) fn read(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let [rows, columns] = &self.reads;
        x.narrow(2, rows.start, rows.len())?.narrow(3, columns.start, columns.len())?.contiguous()
    }

    /// Where what it makes begins in what it reads.
    pub(super) fn margins(&self) -> [usize; 2] {
        [0, 1].map(|side| self.makes[side].start - self.reads[side].start)
    }
}

/// How far an output of the net's looks, in rows and columns of the tensor that it reads.
pub(super) fn reach(io: &Io) -> usize {
    let (Reach::Pixels(reach) | Reach::Means(reach)) = io.reach;
    match io.colour {
        // Of its own channels, which are half as wide and high as the picture.
        Colour::Yuv420 => reach.div_ceil(2),
        Colour::Rgb | Colour::Luma => reach,
    }
}

/// Cuts a tensor of this height and width into tiles that make at most `side` rows and columns each.
pub(super) fn tiles(io: &Io, size: [usize; 2], side: usize) -> Vec<Tile> {
    parts(io, size, [side, side])
}

/// Cuts a tensor of this width and height into tiles as wide as it is that make at most `rows` rows each.
pub(super) fn bands(io: &Io, (width, height): (usize, usize), rows: usize) -> Vec<Tile> {
    parts(io, [height, width], [rows, width])
}

fn parts(io: &Io, size: [usize; 2], most: [usize; 2]) -> Vec<Tile> {
    let reach = reach(io);
    // As many as are needed, of about one size; each begins where the net's own blocks do.
    let parts = |len: usize, most: usize| {
        let unit = io.grid;
        let each = len.div_ceil(len.div_ceil(most).max(1)).next_multiple_of(unit);
        (0..len).step_by(each.max(1)).map(move |start| {
            let end = (start + each).min(len);
            let from = start.saturating_sub(reach) / unit * unit;
            (start..end, from..(end + reach).next_multiple_of(unit).min(len))
        })
    };
    let of_rows = |(rows, read_rows): (Range<usize>, Range<usize>)| {
        parts(size[1], most[1]).map(move |(columns, read_columns)| Tile {
            makes: [rows.clone(), columns],
            reads: [read_rows.clone(), read_columns],
        })
    };
    parts(size[0], most[0]).flat_map(of_rows).collect()
}

/// What a net makes of `x`, `[1, C, H, W]`, tile by tile: `[C, H, W]`; `net` makes a tile's of it, on the CPU.
///
/// # Errors
/// Those of `net`.
pub(super) fn made_of(
    io: &Io,
    x: &Tensor,
    tiles: &[Tile],
    mut net: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Vec<f32>> {
    if let [_] = tiles {
        return Ok(net(x)?.flatten_all()?.to_vec1()?);
    }
    let (scale, channels) = (io.scale, io.channels);
    let size = [x.dim(2)?, x.dim(3)?].map(|len| len * scale);
    let mut out = vec![0.0; channels * size[0] * size[1]];
    for tile in tiles {
        let [top, left] = tile.margins().map(|margin| margin * scale);
        let [rows, columns] = &tile.makes;
        let [height, width] = [rows, columns].map(|range| range.len() * scale);
        let made = net(&tile.read(x)?)?;
        let made = made.narrow(2, top, height)?.narrow(3, left, width)?;
        let made = made.flatten_all()?.to_vec1::<f32>()?;
        for (line, values) in made.chunks_exact(width).enumerate() {
            let (channel, row) = (line / height, rows.start * scale + line % height);
            let first = (channel * size[0] + row) * size[1] + columns.start * scale;
            out[first..][..width].copy_from_slice(values);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{EdsrConfig, NetConfig as _};

    #[test]
    fn tiles_make_all_of_a_picture_once_and_read_as_far_as_the_net_looks() {
        let io = EdsrConfig { channels: 8, blocks: 2, scale: 2, ..Default::default() }.io();
        let (Reach::Pixels(reach) | Reach::Means(reach)) = io.reach;
        for size in [[1, 1], [40, 100], [101, 33]] {
            for side in [16, 33, 500] {
                let mut made = vec![0; size[0] * size[1]];
                for tile in tiles(&io, size, side) {
                    let [rows, columns] = &tile.makes;
                    assert!(rows.len() <= side && columns.len() <= side, "{tile:?}");
                    for (side, len) in size.into_iter().enumerate() {
                        let (makes, reads) = (&tile.makes[side], &tile.reads[side]);
                        assert_eq!(reads.start, makes.start.saturating_sub(reach));
                        assert_eq!(reads.end, (makes.end + reach).min(len));
                    }
                    for row in rows.clone() {
                        columns.clone().for_each(|column| made[row * size[1] + column] += 1);
                    }
                }
                assert!(made.iter().all(|count| *count == 1), "{size:?} {side}");
            }
        }
    }
}
