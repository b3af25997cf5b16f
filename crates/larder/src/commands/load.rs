// SPDX-License-Identifier: Apache-2.0
//! `larder load PATH`: a bar where somebody watches, else a line every few seconds, else NDJSON.

use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder_client::LoadProgress;
use larder_core::{Clock, Error};
use larder_http::{LoadBody, LoadLine};

use super::{Format, shown};
use crate::{
    control::{Control, Reply},
    exit::{Exit, Failure},
    output,
};

/// How often a line is said where nobody watches.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of one line of progress at most: a thousand failures with long keys fit.
const LINE_LENGTH_MAX: usize = 16 << 20;

pub(super) async fn run(control: Control, path: &str, format: Format) -> Result<(), Failure> {
    let body = LoadBody { path: path.to_owned() };
    let reply = control.post_stream("/v1/load", &body).await?;
    let mut lines = Lines { reply, held: Vec::new() };
    let mut teller = Teller::new(format);
    let mut last = LoadProgress::default();
    while let Some(line) = lines.next().await? {
        last = match line {
            LoadLine::Progress(progress) => progress,
            LoadLine::Failed(problem) => {
                teller.bar.finish_and_clear();
                return Err(Error::from(problem).into());
            }
        };
        teller.tell(&last)?;
    }
    teller.bar.finish_and_clear();
    conclude(path, &last, teller)
}

fn conclude(path: &str, last: &LoadProgress, teller: Teller) -> Result<(), Failure> {
    if !last.done {
        return Err(Failure::new(Exit::Unavailable, "the running larder ended before the load"));
    }
    for (file, why) in &last.failed {
        output::say(&format!("larder: {file}: {why}"));
    }
    if last.files_found == 0 {
        return Err(Failure::new(Exit::NotFound, format!("there is nothing at or below {path}")));
    }
    if teller.format == Format::Text {
        let took = teller.clock.elapsed().saturating_sub(teller.started);
        output::say(&format!(
            "{} files, {} ({} from the store) in {}",
            last.files_loaded,
            HumanBytes(last.bytes_loaded),
            HumanBytes(last.bytes_fetched),
            shown::duration(took)
        ));
    }
    if last.bytes_not_kept > 0 {
        let lost = HumanBytes(last.bytes_not_kept);
        output::say(&format!(
            "larder: {lost} could not be kept; is the cache full? see `larder status`"
        ));
    }
    match last.files_failed {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Failed, format!("{count} files could not be loaded"))),
    }
}

/// The lines of a reply.
struct Lines {
    reply: Reply,
    held: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<LoadLine>, Failure> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                let parsed = serde_json::from_slice(&line).map_err(|error| {
                    Failure::new(Exit::Failed, format!("can't read the progress: {error}"))
                });
                return parsed.map(Some);
            }
            match self.reply.next().await? {
                Some(piece) if self.held.len() + piece.len() <= LINE_LENGTH_MAX => {
                    self.held.extend_from_slice(&piece);
                }
                Some(_) => return Err(Failure::new(Exit::Failed, "a progress line is too long")),
                None => return Ok(None),
            }
        }
    }
}

/// Says how far it is, in the way that suits who listens.
struct Teller {
    format: Format,
    bar: ProgressBar,
    clock: Clock,
    started: Duration,
    said: Duration,
}

impl Teller {
    fn new(format: Format) -> Self {
        let clock = Clock::system();
        let started = clock.elapsed();
        let drawn = format == Format::Text && output::watched();
        let target =
            if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { format, bar, clock, started, said: started }
    }

    fn tell(&mut self, progress: &LoadProgress) -> Result<(), Failure> {
        if self.format == Format::Json {
            return output::json(progress);
        }
        let found = if progress.listing_done { "" } else { "+" };
        let files = format!("{}/{}{found} files", progress.files_loaded, progress.files_found);
        self.bar.set_length(progress.bytes_found);
        self.bar.set_position(progress.bytes_loaded);
        let now = self.clock.elapsed();
        if self.bar.is_hidden() && now >= self.said + LINE_INTERVAL {
            self.said = now;
            let seconds = now.saturating_sub(self.started).as_secs_f64().max(0.001);
            let rate = HumanBytes((progress.bytes_loaded as f64 / seconds) as u64);
            let loaded = HumanBytes(progress.bytes_loaded);
            let total = HumanBytes(progress.bytes_found);
            output::say(&format!("{files}, {loaded} of {total}, {rate}/s"));
        }
        self.bar.set_message(files);
        Ok(())
    }
}
