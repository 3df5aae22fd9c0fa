//! Where a deep chain is cut into stages.
//!
//! A layer's weights are read again for each of its rows. Those of a few layers stay in cache beside the rows,
//! those of EDSR's 34 (5 MB, twice as many as components) do not: with each row they would come from memory. So such a chain
//! is computed some layers at a time, and the edges between are kept whole.

use super::plan::ChainSpec;

/// Bytes of f32 weights that are more than stay in cache beside the rows.
const MANY_WEIGHTS: usize = 2 << 20;

/// Bytes of f32 weights of a stage: two layers of 64 channels.
const STAGE_WEIGHTS: usize = 300 << 10;

/// Edges to cut a chain at whose layers have so many bytes of weights, in order; none where all weights together
/// stay in cache.
pub(crate) fn cuts(spec: &ChainSpec, weights: &[usize]) -> Vec<usize> {
    match weights.iter().sum::<usize>() > MANY_WEIGHTS {
        true => cuts_of(spec, weights, STAGE_WEIGHTS),
        false => vec![],
    }
}

/// Cuts so that stages have at most so many bytes of weights, if they can. What is added across a cut is an edge
/// that is kept whole, too, and so a cut; the input cannot be one.
fn cuts_of(spec: &ChainSpec, weights: &[usize], most: usize) -> Vec<usize> {
    let count = spec.layers.len();
    // Edges that are added behind `edge` and lie before.
    let across = |edge: usize| {
        let behind = spec.layers[edge..].iter();
        behind.flat_map(|layer| layer.added()).filter(move |&from| from < edge)
    };
    let mut cuts = vec![];
    let mut start = 0;
    loop {
        let bytes = |end: usize| weights[start..end].iter().sum::<usize>();
        if bytes(count) <= most {
            break;
        }
        // An enlarged edge is too large to be kept.
        let enlarged = |edge: usize| spec.layers[..edge].iter().any(|layer| layer.shuffle > 1);
        let fits = |&edge: &usize| !enlarged(edge) && across(edge).all(|from| from > 0);
        let mut edges = (start + 1..count).filter(fits);
        let fitting = edges.clone().take_while(|&edge| bytes(edge) <= most);
        // The fewest edges kept, then the fewest stages.
        let best = fitting.min_by_key(|&edge| (across(edge).count(), count - edge));
        let Some(cut) = best.or_else(|| edges.next()) else { break };
        cuts.extend(across(cut).chain([cut]));
        start = cut;
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::plan::LayerSpec;

    fn chain(layers: &[Option<usize>]) -> ChainSpec {
        let layer = |&from: &Option<usize>| LayerSpec {
            add: [from, None],
            ..LayerSpec::new("it", 8, 8, 0.1)
        };
        ChainSpec { input_parts: 1, scale: None, layers: layers.iter().map(layer).collect() }
    }

    #[test]
    fn stages_are_as_long_as_their_weights_let_them_be() {
        let plain = chain(&[None; 7]);
        assert_eq!(cuts_of(&plain, &[1; 7], 3), [3, 6]);
        assert!(cuts_of(&plain, &[1; 7], 7).is_empty());
        assert_eq!(cuts_of(&plain, &[1, 1, 9, 1, 1, 1, 1], 3), [2, 3, 6]);
        assert!(cuts(&plain, &[MANY_WEIGHTS / 7; 7]).is_empty());
        assert_eq!(cuts(&plain, &[MANY_WEIGHTS; 7]), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn blocks_stay_whole_and_what_is_added_across_a_cut_is_one() {
        // A head, four blocks, a layer to which the head is added, a tail.
        let edsr = [1, 3, 5, 7].map(|from| [None, Some(from)]).concat();
        let edsr = chain(&[&[None], &edsr[..], &[Some(1), None]].concat());
        assert_eq!(cuts_of(&edsr, &[1; 11], 4), [1, 5, 9]);
        assert_eq!(cuts_of(&edsr, &[1; 11], 5), [1, 5, 10]);
        // A block that is too long is cut where it begins, and inside.
        let long = chain(&[None, None, None, None, Some(1), None]);
        assert_eq!(cuts_of(&long, &[0, 0, 2, 2, 2, 0], 3), [1, 3, 4]);
        // What enlarges stays with what is behind.
        let mut large = chain(&[None; 5]);
        large.layers[2].shuffle = 2;
        assert_eq!(cuts_of(&large, &[2; 5], 3), [1, 2]);
        // The input is not kept: nothing to which it is added can be cut off.
        assert_eq!(cuts_of(&chain(&[None, None, Some(0), None]), &[2; 4], 3), [3]);
        assert!(cuts_of(&chain(&[None, None, None, Some(0)]), &[2; 4], 3).is_empty());
    }
}
