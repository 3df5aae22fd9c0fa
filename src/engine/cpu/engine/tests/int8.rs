//! int8: the same at every CPU level, and near f32.

use super::*;

#[test]
fn int8_gives_the_same_bits_at_every_level() {
    for architecture in [
        video(8, 0),
        video(8, 2),
        video(24, 1),
        video(32, 4),
        two_scale([32, 64], [0, 2, 1]),
        two_scale([16, 24], [1, 1, 0]),
    ] {
        let checkpoint = net(architecture.clone(), 11);
        for (width, height) in [(1, 1), (3, 2), (19, 40), (70, 9)] {
            let x = Random(5).values(CHANNELS * width * height, 1.0);
            let outputs = levels().into_iter().map(|level| {
                let options = options(Precision::Int8, 2);
                let mut engine = at_level(&checkpoint, &options, level);
                tune(&mut engine, [0.25, 0.9]);
                let mut out = vec![f32::NAN; x.len()];
                engine.residual(&x, (width, height), &mut out).unwrap();
                (level, out)
            });
            let outputs: Vec<_> = outputs.collect();
            for (level, out) in &outputs[1..] {
                let name = level.name();
                assert!(*out == outputs[0].1, "{architecture:?} {name} {width}×{height}");
            }
        }
    }
}

/// The last two axes swapped, for maps or kernels of this many columns and rows.
fn transposed(values: &[f32], (width, height): (usize, usize)) -> Vec<f32> {
    let planes = values.chunks_exact(width * height);
    let turned = |plane: &[f32]| -> Vec<f32> {
        (0..width * height).map(|at| plane[at % height * width + at / height]).collect()
    };
    planes.flat_map(turned).collect()
}

#[test]
fn int8_takes_rows_and_columns_outside_the_image_alike() {
    for channels in [8, 16, 24, 32] {
        let mut checkpoint = video_net(channels, 2, 13);
        for (name, values) in &mut checkpoint.tensors {
            if name.ends_with(".activations") {
                // Without means no sums whose order matters.
                values.chunks_exact_mut(STATISTICS).for_each(|channel| channel[2] = 0.0);
            }
        }
        let mut turned = checkpoint.clone();
        for (name, values) in &mut turned.tensors {
            if name.ends_with(".weight") && !name.contains("mlp") {
                *values = transposed(values, (3, 3));
            }
        }
        let (width, height) = (9, 12);
        let x = Random(5).values(CHANNELS * width * height, 1.0);
        let residual = |checkpoint: &Checkpoint, x: &[f32], size: (usize, usize)| {
            let mut engine = CpuEngine::new(checkpoint, &options(Precision::Int8, 1)).unwrap();
            let mut out = vec![f32::NAN; x.len()];
            engine.residual(x, size, &mut out).unwrap();
            out
        };
        let upright = residual(&checkpoint, &x, (width, height));
        let turned = residual(&turned, &transposed(&x, (width, height)), (height, width));
        assert!(transposed(&upright, (width, height)) == turned, "{channels} channels");
    }
}

#[test]
fn int8_is_near_f32() {
    let checkpoint = Checkpoint::built_in().unwrap();
    let (width, height) = (96, 64);
    // A shaded picture with an edge, and noise: ranges were measured on pictures.
    let mut random = Random(9);
    let mut value = |at: usize| {
        let (channel, row, column) = (at / (width * height), at / width % height, at % width);
        let (y, x) = (2 * row + channel / 2 % 2, 2 * column + channel % 2);
        let shade = 0.5 + 0.2 * (x as f32 / 40.0).sin() * (y as f32 / 30.0).cos();
        let edge = if channel < 4 && x + y > 160 { 0.25 } else { 0.0 };
        shade + edge + 0.1 * random.next()
    };
    let x: Vec<f32> = (0..CHANNELS * width * height).map(&mut value).collect();
    for omega in [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.4, 0.6]] {
        let residual = |precision: Precision| {
            let mut engine = engine(&checkpoint, precision, 1, Level::current());
            tune(&mut engine, omega);
            let mut out = vec![0.0; x.len()];
            engine.residual(&x, (width, height), &mut out).unwrap();
            out
        };
        let (exact, near) = (residual(Precision::F32), residual(Precision::Int8));
        let energy = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
        let signal = energy(&mut exact.iter().copied());
        let error = energy(&mut exact.iter().zip(&near).map(|(a, b)| a - b));
        // One and a half codes of eight bits.
        let (rms, largest) = ((error / x.len() as f32).sqrt(), 1.5 / 255.0);
        assert!(error > 0.0 && rms < largest, "{omega:?}: {rms} of {largest}");
        assert!(error < 0.5 * signal, "{omega:?}: {error} of {signal}");
    }
}
