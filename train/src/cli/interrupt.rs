//! Signals that ask for the end.

use std::cell::OnceCell;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tunableconv_train::tell;

/// What notices that the program is asked to end: from the first question on. Until then a signal ends it at once, as
/// there is nothing to save.
#[derive(Default)]
pub struct Interrupt {
    number: OnceCell<Arc<AtomicUsize>>,
}

impl Interrupt {
    /// Whether the program is asked to end.
    pub fn is_asked(&self) -> bool {
        let number = self.number.get_or_init(|| {
            signals().unwrap_or_else(|error| {
                tell!("warning: a signal will end the run without saving: {error}");
                Arc::default()
            })
        });
        number.load(Ordering::Relaxed) != 0
    }

    /// As the shell has it for a program that the signal ended.
    pub fn exit_code(&self) -> ExitCode {
        let number = self.number.get().map_or(0, |number| number.load(Ordering::Relaxed));
        ExitCode::from(128 + number as u8)
    }
}

/// Where the number of a signal that asks for the end turns up; a second one ends at once.
fn signals() -> std::io::Result<Arc<AtomicUsize>> {
    let (number, is_second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, is_second.clone())?;
        flag::register(signal, is_second.clone())?;
        flag::register_usize(signal, number.clone(), signal as usize)?;
    }
    Ok(number)
}
