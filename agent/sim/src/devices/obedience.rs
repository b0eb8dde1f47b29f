//! How devices take commands. Most obey at once; some take their time, do nothing or refuse, so that every outcome of a
//! command can be watched.

/// What becomes of a command that a device can understand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Obedience {
    /// It is carried out at once.
    AtOnce,
    /// It is carried out after a time in this range, in seconds of the device's life.
    Late(f64, f64),
    /// It is never carried out.
    Never,
    /// The device answers that it will not.
    Refuses,
}

/// What a word for a switch asks for, in any case; `None` if it is no such word.
pub fn switched(word: &str, on: bool) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "1" | "true" => Some(true),
        "off" | "0" | "false" => Some(false),
        "toggle" | "2" => Some(!on),
        _ => None,
    }
}
