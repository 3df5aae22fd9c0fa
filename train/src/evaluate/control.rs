//! How well a parameter controls: rank correlation and smoothness of a response.

/// Ranks from 1; equal values share the mean of their ranks.
///
/// # Panics
/// If a value is NaN.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].partial_cmp(&values[b]).expect("no value is NaN"));
    let mut ranks = vec![0.0; values.len()];
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let below = values.iter().filter(|&&v| v < values[group[0]]).count();
        let shared = below as f64 + (group.len() + 1) as f64 / 2.0;
        group.iter().for_each(|&i| ranks[i] = shared);
    }
    ranks
}

/// Spearman's rank correlation: Pearson's correlation of the ranks, equal values sharing their mean
/// rank. From −1 to 1; `None` where a side is constant, which has no order.
///
/// # Panics
/// If the lengths differ or a value is NaN.
#[must_use]
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "pairs have two sides");
    let (a, b) = (ranks(a), ranks(b));
    // The mean of ranks 1 to n, with or without ties.
    let mean = (a.len() + 1) as f64 / 2.0;
    let product =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}

/// Largest `|v(i−1) − 2 v(i) + v(i+1)|` of evenly spaced values, in their unit; 0 for fewer than
/// three. A straight response has 0, a jump of height h has h.
#[must_use]
pub fn largest_second_difference(values: &[f64]) -> f64 {
    values.windows(3).map(|v| (v[0] - 2.0 * v[1] + v[2]).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlation_by_hand() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 100.0, 1000.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[5.0, 4.0, -9.0]), Some(-1.0));
        // Without ties 1 − 6 Σd² / (n (n² − 1)): d = 1, 1, 1, 1, so 1 − 24 / 60.
        let got = spearman(&[1.0, 2.0, 3.0, 4.0], &[2.0, 1.0, 4.0, 3.0]).unwrap();
        assert!((got - 0.6).abs() < 1e-12, "{got}");
    }

    #[test]
    fn equal_values_share_their_mean_rank() {
        assert_eq!(ranks(&[7.0, 3.0, 7.0, 1.0, 7.0]), [4.0, 2.0, 4.0, 1.0, 4.0]);
        // Ranks 1 2 3 4 and 1 2.5 2.5 4: Σab = 4.5, Σa² = 5, Σb² = 4.5.
        let got = spearman(&[1.0, 2.0, 3.0, 4.0], &[0.0, 5.0, 5.0, 9.0]).unwrap();
        assert!((got - 4.5 / (5.0f64 * 4.5).sqrt()).abs() < 1e-12, "{got}");
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[4.0, 4.0, 4.0]), None);
    }

    #[test]
    fn second_differences_by_hand() {
        assert_eq!(largest_second_difference(&[0.0, 2.0, 4.0, 6.0]), 0.0);
        // 0 − 2·1 + 4 = 2, 1 − 2·4 + 9 = 2, 4 − 2·9 + 10 = −4.
        assert_eq!(largest_second_difference(&[0.0, 1.0, 4.0, 9.0, 10.0]), 4.0);
        assert_eq!(largest_second_difference(&[1.0, 5.0]), 0.0);
    }
}
