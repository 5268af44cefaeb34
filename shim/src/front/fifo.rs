//! Output fifos of processes that have ended.

use std::os::fd::OwnedFd;
use std::time::Duration;

/// A reader that has not come by then is not coming.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Keeps fifos open while there is something in them: with the last who has it open, what is unread is lost, and a
/// short guest may well be gone before its reader has opened the other end.
pub(crate) async fn linger(fifos: Vec<OwnedFd>) {
    let deadline = tokio::time::Instant::now() + READ_WITHIN;
    let mut pause = Duration::from_millis(1);
    let has_more = |fifo: &OwnedFd| rustix::io::ioctl_fionread(fifo).is_ok_and(|unread| unread > 0);
    while fifos.iter().any(has_more) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_unread_is_kept_until_it_is_read_or_given_up() {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let began = tokio::time::Instant::now();
        linger(vec![writer.try_clone().expect("copy")]).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "nothing was unread");

        rustix::io::write(&writer, b"x").expect("written");
        let lingering = tokio::spawn(linger(vec![writer.try_clone().expect("copy")]));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!lingering.is_finished());
        rustix::io::read(&reader, &mut [0; 8][..]).expect("read");
        lingering.await.expect("closed");
        assert!(began.elapsed() < Duration::from_secs(2));

        rustix::io::write(&writer, b"x").expect("written");
        linger(vec![writer]).await;
        assert!(began.elapsed() > READ_WITHIN);
    }
}
