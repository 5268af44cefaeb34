//! Colour for the words that matter, where a person reads them: on a terminal that `NO_COLOR`, `CLICOLOR` and `TERM` do not
//! speak against.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// What a word tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing in particular
    Plain,
    Good,
    /// To be looked at
    Doubtful,
    Bad,
}

/// Whether there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    None,
    Shown,
}

impl Colour {
    /// On standard output.
    pub(crate) fn of_stdout() -> Self {
        Self::of(AutoStream::choice(&io::stdout()))
    }

    /// On standard error.
    pub(crate) fn of_stderr() -> Self {
        Self::of(AutoStream::choice(&io::stderr()))
    }

    fn of(choice: ColorChoice) -> Self {
        match choice {
            ColorChoice::Never => Self::None,
            ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => Self::Shown,
        }
    }

    pub(crate) fn style(self, tone: Tone) -> Style {
        match (self, tone) {
            (Self::None, _) | (_, Tone::Plain) => Style::new(),
            (Self::Shown, Tone::Good) => AnsiColor::Green.on_default(),
            (Self::Shown, Tone::Doubtful) => AnsiColor::Yellow.on_default(),
            (Self::Shown, Tone::Bad) => AnsiColor::Red.on_default().bold(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_has_a_colour_only_where_colour_is_shown() {
        let text = |colour: Colour, tone| {
            let style = colour.style(tone);
            format!("{style}word{style:#}")
        };
        for tone in [Tone::Plain, Tone::Good, Tone::Doubtful, Tone::Bad] {
            assert_eq!(text(Colour::None, tone), "word");
        }
        assert_eq!(text(Colour::Shown, Tone::Plain), "word");
        assert_eq!(text(Colour::Shown, Tone::Good), "\x1b[32mword\x1b[0m");
        assert_eq!(text(Colour::Shown, Tone::Bad), "\x1b[1m\x1b[31mword\x1b[0m");
        assert_eq!(Colour::of(ColorChoice::Never), Colour::None);
    }
}
