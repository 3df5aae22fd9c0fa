//! What is kept of the images of a folder, so that all of them fit into memory.
//!
//! Each image may take an equal share; what small ones leave over goes to the others. An image within
//! its share is kept whole, and of a larger one square pieces at random places. Crops come out of
//! pieces as they do out of images.

use anyhow::ensure;
use bytesize::ByteSize;
use image::RgbImage;
use image::imageops::crop_imm;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::content::Hash;

/// How much of every image is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    Everything,
    /// As much as is needed for all together to take at most so many bytes, in pieces that hold whole
    /// crops with their halo.
    Within {
        /// For all images together, at 3 bytes a pixel.
        bytes: u64,
        /// Side of a crop with its halo, in pixels.
        span: usize,
    },
    /// The middle.
    Middle {
        /// Of at most so many pixels each way, in even numbers of them.
        side: usize,
    },
}

/// Bytes of a pixel.
const PIXEL: u64 = 3;

/// Least side of a piece, in pixels, where an image's share has room for it.
const SIDE: usize = 256;

/// What an image is cut to.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Whole,
    Middle {
        side: usize,
    },
    /// An image above `share` bytes, to pieces of at least `span` pixels each way.
    Pieces {
        share: u64,
        span: usize,
    },
}

impl Cut {
    /// For images of these sizes (pixels; `None` where that is not known).
    ///
    /// # Errors
    /// When there is not room for one crop of each.
    pub fn new(keep: Keep, sizes: &[Option<u64>]) -> anyhow::Result<Self> {
        match keep {
            Keep::Everything => Ok(Self::Whole),
            Keep::Middle { side } => Ok(Self::Middle { side }),
            Keep::Within { bytes, span } => {
                let sizes: Vec<u64> = sizes.iter().flatten().map(|size| size * PIXEL).collect();
                let share = equal_share(&sizes, bytes);
                let least = square(span);
                let needed: u64 = sizes.iter().map(|size| size.min(&least)).sum();
                ensure!(
                    needed <= bytes,
                    "{} images need {} at least, for one crop of {span}x{span} pixels each, and there \
                     is room for {}",
                    sizes.len(),
                    ByteSize(needed),
                    ByteSize(bytes)
                );
                Ok(Self::Pieces { share, span })
            }
        }
    }

    /// What is kept of an image: at least one piece. `hash` is that of its file, and decides where the
    /// pieces are.
    pub fn apply(self, image: RgbImage, hash: Hash) -> Vec<RgbImage> {
        let (width, height) = image.dimensions();
        let take = |x: usize, y: usize, w: usize, h: usize| {
            crop_imm(&image, x as u32, y as u32, w as u32, h as u32).to_image()
        };
        let (width, height) = (width as usize, height as usize);
        match self {
            Self::Whole => vec![image],
            Self::Middle { side } => {
                let span = |length: usize| length.min(side) & !1;
                let (w, h) = (span(width), span(height));
                vec![take((width - w) / 2, (height - h) / 2, w, h)]
            }
            Self::Pieces { share, .. } if image.as_raw().len() as u64 <= share => vec![image],
            Self::Pieces { share, span } => {
                let largest = (share / PIXEL).isqrt() as usize;
                let side = SIDE.max(2 * span).min(largest).max(span);
                let (w, h) = (side.min(width), side.min(height));
                let (columns, rows) = (width / w, height / h);
                let room = (share / (PIXEL * (w * h) as u64)).max(1) as usize;
                let mut rng = ChaCha8Rng::from_seed(*hash.as_bytes());
                let cells = columns * rows;
                let chosen = rand::seq::index::sample(&mut rng, cells, room.min(cells));
                let place = |cell: usize, cells: usize, part: usize, whole: usize| {
                    // Evenly spread from edge to edge.
                    if cells == 1 {
                        (whole - part) / 2
                    } else {
                        cell * (whole - part) / (cells - 1)
                    }
                };
                let piece = |cell: usize| {
                    let x = place(cell % columns, columns, w, width);
                    let y = place(cell / columns, rows, h, height);
                    take(x, y, w, h)
                };
                chosen.into_iter().map(piece).collect()
            }
        }
    }
}

/// Bytes of a square of pixels.
fn square(side: usize) -> u64 {
    PIXEL * (side as u64).pow(2)
}

/// The largest share such that all sizes, each cut to it, come to at most `bytes`.
fn equal_share(sizes: &[u64], bytes: u64) -> u64 {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    let mut left = bytes;
    for (index, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - index) as u64;
        if *size > share {
            return share;
        }
        left -= size;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn coordinates(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, (x / 256 + y / 256) as u8]))
    }

    #[test]
    fn shares_are_equal_and_what_is_left_over_goes_round() {
        assert_eq!(equal_share(&[10, 10, 10], 30), u64::MAX);
        assert_eq!(equal_share(&[10, 10, 10], 29), 9);
        assert_eq!(equal_share(&[1, 100, 50], 61), 30);
        assert_eq!(equal_share(&[1, 100, 20], 61), 40);
    }

    #[test]
    fn a_large_image_is_cut_to_pieces_within_its_share() {
        let image = coordinates(1000, 700);
        let hash = blake3::hash(b"x");
        let sizes = [Some(700_000), Some(100), None];
        for bytes in [20_000_u64, 60_000, 500_000, 1_500_000, 2_000_000] {
            let keep = Keep::Within { bytes, span: 80 };
            let pieces = Cut::new(keep, &sizes).unwrap().apply(image.clone(), hash);
            let kept: usize = pieces.iter().map(|piece| piece.as_raw().len()).sum();
            assert!(kept as u64 <= bytes, "{kept} of {bytes}");
            assert!(kept as u64 > bytes / 2, "{kept} of {bytes}");
            for piece in &pieces {
                assert!(piece.width().min(piece.height()) >= 80);
                let [x, y, high] = piece.get_pixel(0, 0).0.map(u32::from);
                // A window of the image.
                let found = (0..=high).any(|h| {
                    let (x, y) = (x + 256 * h, y + 256 * (high - h));
                    x + piece.width() <= 1000
                        && y + piece.height() <= 700
                        && *piece
                            == crop_imm(&image, x, y, piece.width(), piece.height()).to_image()
                });
                assert!(found);
            }
            let places: std::collections::HashSet<_> =
                pieces.iter().map(|piece| piece.get_pixel(0, 0).0).collect();
            assert_eq!(places.len(), pieces.len());
        }
        let keep = Keep::Within { bytes: 2_100_300, span: 80 };
        assert_eq!(Cut::new(keep, &sizes).unwrap().apply(image.clone(), hash), [image]);
    }

    #[test]
    fn too_little_room_is_refused() {
        let keep = Keep::Within { bytes: 19_299, span: 80 };
        let error = Cut::new(keep, &[Some(7000), Some(100), None]).unwrap_err().to_string();
        assert!(error.contains("need 19.0 KiB") && error.contains("80x80"), "{error}");
    }
}
