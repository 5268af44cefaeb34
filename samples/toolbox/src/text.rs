//! Commands about text: files, standard input and the environment.

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use crate::{Outcome, named};

/// `cat [FILE...]`; `-` and nothing mean standard input. Output is flushed after each piece, so it can be followed.
pub fn cat(arguments: &[String]) -> Outcome {
    let standard_input = ["-".to_owned()];
    let paths = if arguments.is_empty() {
        &standard_input
    } else {
        arguments
    };
    let mut output = io::stdout();
    for path in paths {
        if path == "-" {
            copy(&mut io::stdin(), &mut [&mut output]).map_err(named(path))?;
        } else {
            let mut file = File::open(path).map_err(named(path))?;
            copy(&mut file, &mut [&mut output]).map_err(named(path))?;
        }
    }
    Ok(())
}

/// `tee FILE...`: standard input to the files and to standard output.
pub fn tee(arguments: &[String]) -> Outcome {
    let mut files = Vec::new();
    for path in arguments {
        files.push(File::create(path).map_err(named(path))?);
    }
    let mut output = io::stdout();
    let mut outputs: Vec<&mut dyn io::Write> = vec![&mut output];
    outputs.extend(files.iter_mut().map(|file| file as &mut dyn io::Write));
    copy(&mut io::stdin(), &mut outputs).map_err(named("-"))
}

fn copy(input: &mut dyn io::Read, outputs: &mut [&mut dyn io::Write]) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        for output in outputs.iter_mut() {
            output.write_all(&buffer[..count])?;
            output.flush()?;
        }
    }
}

/// `wc [FILE]`: bytes only.
pub fn wc(arguments: &[String]) -> Outcome {
    let path = arguments.iter().find(|argument| !argument.starts_with('-'));
    let mut buffer = vec![0; 64 * 1024];
    let mut file: Box<dyn io::Read> = match path {
        Some(path) => Box::new(File::open(path).map_err(named(path))?),
        None => Box::new(io::stdin()),
    };
    let mut total = 0_u64;
    loop {
        match file.read(&mut buffer).map_err(named("read"))? {
            0 => break,
            count => total += count as u64,
        }
    }
    println!("{total}");
    Ok(())
}

/// `echo [-n] WORD...`
pub fn echo(arguments: &[String]) -> Outcome {
    let (end, words) = match arguments.split_first() {
        Some((first, rest)) if first == "-n" => ("", rest),
        _ => ("\n", arguments),
    };
    let mut output = io::stdout();
    write!(output, "{}{end}", words.join(" "))
        .and_then(|()| output.flush())
        .map_err(named("-"))
}

/// `env`: sorted.
pub fn environment(_: &[String]) -> Outcome {
    let mut variables: Vec<_> = env::vars_os().collect();
    variables.sort();
    for (name, value) in variables {
        println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    Ok(())
}
