//! Where in a tuning domain a net is looked at.

use serde::Serialize;
use tunableconv::tuning::{Domain, TuningSpace};

/// What a point of the domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A corner of the box, a vertex of the simplex.
    Corner,
    /// The middle of an edge between two corners.
    Edge,
    /// The centre: of the box, or equal weights on the simplex.
    Centre,
}

/// A point of the domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What it is.
    pub place: Place,
    /// One entry per parameter.
    pub tuning: Vec<f64>,
}

/// Corners, then midpoints of edges, then the centre, each once. A segment, whose edge is its centre, has the
/// midpoints of its halves instead.
#[must_use]
pub fn points(space: &TuningSpace) -> Vec<Point> {
    let corners: Vec<Vec<f64>> = space
        .corners()
        .map(|corner| corner.values().iter().map(|&v| f64::from(v)).collect())
        .collect();
    let count = corners.len();
    let mean = |of: &[usize]| -> Vec<f64> {
        let sum = |j: usize| of.iter().map(|&c| corners[c][j]).sum::<f64>();
        (0..space.len()).map(|j| sum(j) / of.len() as f64).collect()
    };
    let is_edge = |a: usize, b: usize| match space.domain {
        Domain::Box => (a ^ b).count_ones() == 1,
        Domain::Simplex => true,
    };
    let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    let edges: Vec<_> = pairs.filter(|&(a, b)| is_edge(a, b)).map(|(a, b)| mean(&[a, b])).collect();
    let all: Vec<usize> = (0..count).collect();
    let centre = mean(&all);
    let point = |place| move |tuning| Point { place, tuning };
    let mut points: Vec<_> = corners.iter().cloned().map(point(Place::Corner)).collect();
    if count == 2 {
        let between = |t: f64| -> Vec<f64> {
            corners[0].iter().zip(&corners[1]).map(|(a, b)| a + t * (b - a)).collect()
        };
        points.extend([0.25, 0.75].map(between).map(point(Place::Edge)));
    }
    if count > 2 {
        points.extend(edges.into_iter().map(point(Place::Edge)));
    }
    if count > 1 {
        points.push(Point { place: Place::Centre, tuning: centre });
    }
    points
}

/// The tuning at `t` of the way along parameter `j`, 0 to 1 within the domain: in a box from its
/// minimum to its maximum with the others at 0 (or the value of their range nearest to it), on a
/// simplex from equal weights of the others to all weight on `j`.
#[must_use]
pub fn along(space: &TuningSpace, j: usize, t: f64) -> Vec<f64> {
    let others = (space.len() - 1) as f64;
    let entry = |(i, p): (usize, &tunableconv::tuning::Parameter)| match space.domain {
        Domain::Box if i == j => p.minimum + t * (p.maximum - p.minimum),
        Domain::Box => 0f64.clamp(p.minimum, p.maximum),
        // A simplex of one parameter is a point.
        Domain::Simplex if i == j && others == 0.0 => 1.0,
        Domain::Simplex if i == j => t,
        Domain::Simplex => (1.0 - t) / others,
    };
    space.parameters.iter().enumerate().map(entry).collect()
}

/// `name value` of every entry, for people.
#[must_use]
pub fn label(space: &TuningSpace, tuning: &[f64]) -> String {
    let names = space.parameters.iter().zip(tuning);
    let entries: Vec<String> =
        names.map(|(p, v)| format!("{} {}", p.name, (v * 100.0).round() / 100.0)).collect();
    entries.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunableconv::tuning::Parameter;

    fn space(domain: Domain, ranges: &[(f64, f64)]) -> TuningSpace {
        let parameter = |(i, &(minimum, maximum)): (usize, &(f64, f64))| Parameter {
            name: format!("p{i}"),
            nick: String::new(),
            blurb: String::new(),
            minimum,
            maximum,
            default: minimum,
            objective: String::new(),
        };
        TuningSpace { domain, parameters: ranges.iter().enumerate().map(parameter).collect() }
    }

    fn tunings(space: &TuningSpace, place: Place) -> Vec<Vec<f64>> {
        let points = points(space).into_iter().filter(|p| p.place == place);
        points.map(|p| p.tuning).collect()
    }

    #[test]
    fn a_box_has_corners_edges_and_a_centre() {
        let square = space(Domain::Box, &[(0.0, 1.0), (0.0, 2.0)]);
        assert_eq!(
            tunings(&square, Place::Corner),
            [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 2.0]]
        );
        assert_eq!(tunings(&square, Place::Edge), [[0.5, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 2.0]]);
        assert_eq!(tunings(&square, Place::Centre), [[0.5, 1.0]]);
        let cube = space(Domain::Box, &[(0.0, 1.0); 3]);
        assert_eq!(tunings(&cube, Place::Edge).len(), 12);
        let segment = space(Domain::Box, &[(0.0, 1.0)]);
        assert_eq!(
            points(&segment).iter().map(|p| p.tuning[0]).collect::<Vec<_>>(),
            [0.0, 1.0, 0.25, 0.75, 0.5]
        );
    }

    #[test]
    fn every_point_of_a_simplex_is_a_tuning() {
        for p in 1..=4 {
            let simplex = space(Domain::Simplex, &vec![(0.0, 1.0); p]);
            let points = points(&simplex);
            assert!(points.iter().all(|point| simplex.tuning(&point.tuning).is_ok()));
            let pairs = p * (p - 1) / 2;
            let expected = p + if p == 2 { 2 } else { pairs } + usize::from(p > 1);
            assert_eq!(points.len(), expected, "p = {p}");
            assert!(
                (0..=10).all(|i| simplex.tuning(&along(&simplex, 0, f64::from(i) / 10.0)).is_ok())
            );
        }
    }

    #[test]
    fn a_path_leaves_the_other_parameters_at_zero() {
        let square = space(Domain::Box, &[(0.0, 1.0), (2.0, 4.0)]);
        assert_eq!(along(&square, 0, 0.5), [0.5, 2.0]);
        assert_eq!(along(&square, 1, 1.5), [0.0, 5.0]);
        let simplex = space(Domain::Simplex, &[(0.0, 1.0); 3]);
        assert_eq!(along(&simplex, 1, 0.5), [0.25, 0.5, 0.25]);
    }
}
