//! Row kernels at every CPU level of this machine, one thread: a row of the shipped net's inner
//! layers at 1280×720, against the most multiplications and additions that the same instruction
//! does on registers alone.
//!
//! `cargo bench --bench rows` prints a table of medians. Kernels and peaks take turns, so that what
//! slows the machine slows both.

use std::time::Instant;

use tunableconv::engine::cpu::kernels::probe::RowProbe;

const ROUNDS: usize = 41;
/// Rows in a turn, about a tenth of a millisecond each.
const ROWS: usize = 20;
/// Steps of the peak's loop in a turn.
const STEPS: usize = 100_000;

/// GFLOP/s, or the same of integers.
fn rate(run: impl FnOnce() -> usize) -> f64 {
    let start = Instant::now();
    let operations = run();
    operations as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    let mut probes = RowProbe::all();
    let mut rows = vec![vec![]; probes.len()];
    let mut peaks = vec![vec![]; probes.len()];
    // The first round warms up.
    for round in 0..=ROUNDS {
        for (index, probe) in probes.iter_mut().enumerate() {
            let peak = probe.peak(1).map(|_| rate(|| probe.peak(STEPS).unwrap_or(0)));
            let row = rate(|| {
                (0..ROWS).for_each(|_| probe.run());
                ROWS * probe.operations
            });
            if round > 0 {
                rows[index].push(row);
                peaks[index].extend(peak);
            }
        }
    }
    println!("Row of 3×3×32 → 32 channels, 1 thread, median of {ROUNDS} rounds\n");
    println!("| level | kernel | numbers | GFLOP/s | peak | of peak |");
    println!("|---|---|---|--:|--:|--:|");
    for (index, probe) in probes.iter().enumerate() {
        let row = median(&mut rows[index]);
        let of_peak = match peaks[index].as_mut_slice() {
            [] => "– | –".into(),
            peaks => {
                let peak = median(peaks);
                format!("{peak:.0} | {:.0} %", 100.0 * row / peak)
            }
        };
        let RowProbe { level, kernel, precision, .. } = probe;
        println!("| {level} | {kernel} | {precision} | {row:.0} | {of_peak} |");
    }
}
