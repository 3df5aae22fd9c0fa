//! Loops over rows of pixels, in forms that the compiler vectorises.

/// `out = tap · row`.
pub fn scale_row(out: &mut [f32], row: &[f32], tap: f32) {
    for (out, &value) in out.iter_mut().zip(row) {
        *out = tap * value;
    }
}

/// `out += tap · (a + b)`, for symmetric kernels.
pub fn add_pair(out: &mut [f32], a: &[f32], b: &[f32], tap: f32) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out += tap * (a + b);
    }
}

/// Clips to `[0, 1]`.
pub fn clip(values: &mut [f32]) {
    for value in values {
        *value = value.clamp(0.0, 1.0);
    }
}

/// Copies a plane of the given width into `padded`, with `radius` replicated pixels on every side.
pub fn pad(plane: &[f32], width: usize, radius: usize, padded: &mut Vec<f32>) {
    let height = plane.len() / width;
    padded.clear();
    for y in 0..height + 2 * radius {
        let row = &plane[y.saturating_sub(radius).min(height - 1) * width..][..width];
        padded.resize(padded.len() + radius, row[0]);
        padded.extend_from_slice(row);
        padded.resize(padded.len() + radius, row[width - 1]);
    }
}
