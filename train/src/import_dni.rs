//! Two nets of one shape as one with a knob between them: deep network interpolation (Wang, Yu, Dong, Tang, Loy,
//! CVPR 2019).
//!
//! Each kernel, bias and slope becomes a bank of two, mixed by `1 − t` and `t`. What is between the two is
//! only of use where one net was trained from the other, or both from a third.

use anyhow::{bail, ensure};
use tunableconv::checkpoint::{Checkpoint, Metadata, Provenance};
use tunableconv::nn::Mode;
use tunableconv::tuning::{Domain, Parameter};

/// A net that is the first at 0 of `parameter` and the second at 1; checkpoints with their names.
///
/// # Errors
/// Nets that differ in more than their weights, or whose banks have no room for a parameter more.
pub fn interpolate(nets: [(&str, &Checkpoint); 2], parameter: &str) -> anyhow::Result<Checkpoint> {
    let [(first_name, first), (second_name, second)] = nets;
    let Metadata { architecture, tuning, .. } = &first.metadata;
    let [one, other] = nets.map(|(_, net)| net.metadata.architecture.describe());
    ensure!(
        *architecture == second.metadata.architecture,
        "{first_name} and {second_name} are nets of other shapes: {one}; {other}"
    );
    ensure!(
        *tuning == second.metadata.tuning,
        "{first_name} and {second_name} have other parameters: {}; {}",
        tuning.names(),
        second.metadata.tuning.names()
    );
    let phis = architecture.phis();
    if let Some((layer, _)) = phis.iter().find(|(_, phi)| phi.mode != Mode::Multilinear) {
        bail!(
            "{first_name}: layer `{layer}` has not a kernel for each corner of the box (phi multilinear), so that \
             there is no place for a parameter more"
        );
    }
    let on_a_box = tuning.domain == Domain::Box;
    let unit = tuning.parameters.iter().all(|p| (p.minimum, p.maximum) == (0.0, 1.0));
    ensure!(on_a_box && unit, "{first_name}: its parameters are not each in 0 to 1");
    let mut tuning = tuning.clone();
    tuning.parameters.push(Parameter {
        name: parameter.into(),
        nick: parameter.into(),
        blurb: format!("0: {first_name}, 1: {second_name}, between them their weights mixed"),
        minimum: 0.0,
        maximum: 1.0,
        default: 0.5,
        objective: format!("as {second_name}"),
    });
    tuning.validate()?;
    let provenance = Provenance {
        recipe: format!("{first_name} and {second_name}, interpolated"),
        crate_version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    let metadata =
        Metadata { architecture: architecture.clone(), tuning, provenance, calibration: None };
    // The new parameter is the highest bit of a corner's number.
    let tensors = metadata.tensors().into_iter().map(|spec| {
        let both = [first, second].map(|net| net.tensors.get(&spec.name));
        let [Some(a), Some(b)] = both else { bail!("tensor `{}` is missing", spec.name) };
        Ok((spec.name, [&a[..], b].concat()))
    });
    Ok(Checkpoint { tensors: tensors.collect::<anyhow::Result<_>>()?, metadata })
}
