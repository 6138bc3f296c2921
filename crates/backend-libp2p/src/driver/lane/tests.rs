//! Two lanes over a pipe in memory.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;
use crate::driver::budget::Budget;
use crate::driver::link::{Link, QueueLimits};
use crate::driver::{incoming, outgoing};
use crate::wire::PeerKey;

struct End {
    queue: Arc<Queue>,
    received: mpsc::Receiver<Vec<Message>>,
    task: JoinHandle<LaneEnd>,
}

const MIB: usize = 1 << 20;

fn queue() -> Arc<Queue> {
    Arc::new(Queue::new(64 * MIB, Arc::new(Budget::new(64 * MIB))))
}

fn end<I, O>(stream: DuplexStream, incoming: I, outgoing: O) -> End
where
    I: Incoming + Send + 'static,
    O: Outgoing + Send + 'static,
{
    let queue = queue();
    let (sender, received) = mpsc::channel(100_000);
    let deliver = move |messages: &mut Vec<Message>| {
        sender.try_send(std::mem::take(messages)).unwrap();
    };
    let lane = Lane::new(stream.compat(), incoming, outgoing, Arc::clone(&queue), Arc::default(), deliver);
    End { queue, received, task: tokio::spawn(lane) }
}

fn small(stream: DuplexStream) -> End {
    end(stream, incoming::Frames::default(), outgoing::Frames)
}

fn bulk(stream: DuplexStream) -> End {
    let budget = Arc::new(Budget::new(64 * MIB));
    end(stream, incoming::Chunks::new(budget), outgoing::Chunks::default())
}

fn hit(req: u64, len: usize) -> Message {
    Message::Hit { req, envelope: vec![req as u8; len].into() }
}

impl End {
    fn push(&self, message: &Message) {
        let (head, body) = message.encode();
        assert!(self.queue.push(crate::driver::queue::Parcel { head, body }));
    }

    fn send(&self, messages: &[Message]) {
        messages.iter().for_each(|message| self.push(message));
        self.queue.wake();
    }

    async fn receive(&mut self, count: usize) -> Vec<Message> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.received.recv().await.unwrap());
        }
        all
    }
}

#[tokio::test]
async fn what_is_sent_together_arrives_together() {
    let (a, b) = duplex(MIB);
    let (one, mut other) = (small(a), small(b));
    let messages: Vec<_> = (0..100).map(|at| hit(at, 100)).collect();
    one.send(&messages);
    assert_eq!(other.received.recv().await.unwrap(), messages);
}

#[tokio::test]
async fn both_sides_can_send_more_than_the_pipe_holds_at_once() {
    let (a, b) = duplex(16 * 1024);
    let (mut one, mut other) = (bulk(a), bulk(b));
    let messages: Vec<_> = (0..8).map(|at| hit(at, 4 * MIB)).collect();
    one.send(&messages);
    other.send(&messages);
    let (at_one, at_other) = tokio::join!(one.receive(8), other.receive(8));
    assert_eq!((at_one.len(), at_other.len()), (8, 8));
}

#[tokio::test]
async fn large_messages_take_turns() {
    let (a, b) = duplex(16 * 1024);
    let (one, mut other) = (bulk(a), bulk(b));
    one.send(&[hit(1, 4 * MIB), hit(2, 100_000), hit(3, 70_000)]);
    let order: Vec<_> = other.receive(3).await.into_iter().map(|message| message.encode().1.len()).collect();
    assert_eq!(order, [100_000, 70_000, 4 * MIB]);
}

#[tokio::test]
async fn bytes_count_until_they_are_written() {
    let (a, b) = duplex(16 * 1024);
    let one = bulk(a);
    one.send(&[hit(1, 4 * MIB)]);
    tokio::task::yield_now().await;
    assert!(one.queue.bytes() > 4 * MIB);
    let mut other = bulk(b);
    other.receive(1).await;
    assert_eq!(one.queue.bytes(), 0);
}

#[tokio::test]
async fn a_frame_that_declares_64_mib_ends_the_lane() {
    let (mut peer, b) = duplex(16 * 1024);
    let lane = small(b);
    peer.write_all(&(64 * MIB as u32).to_be_bytes()).await.unwrap();
    assert!(matches!(lane.task.await.unwrap(), LaneEnd::Broken(Broken::TooLong)));
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_of_the_lane() {
    let (peer, b) = duplex(16 * 1024);
    let lane = small(b);
    drop(peer);
    assert!(matches!(lane.task.await.unwrap(), LaneEnd::Closed));
}

/// Writes or reads one kibibyte each second.
const SLOW: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_a_kibibyte_per_second_is_dropped() {
    let (mut peer, b) = duplex(1024);
    let lane = small(b);
    let begun = tokio::time::Instant::now();
    peer.write_all(&60_000_u32.to_be_bytes()).await.unwrap();
    let drip = tokio::spawn(async move {
        while peer.write_all(&[0; 1024]).await.is_ok() {
            tokio::time::sleep(SLOW).await;
        }
    });
    assert!(matches!(lane.task.await.unwrap(), LaneEnd::Stalled));
    assert!(begun.elapsed() <= 2 * PROGRESS_LIMIT);
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_a_kibibyte_per_second_is_dropped() {
    let (mut peer, b) = duplex(1024);
    let lane = bulk(b);
    lane.send(&[hit(1, 4 * MIB)]);
    let begun = tokio::time::Instant::now();
    let drip = tokio::spawn(async move {
        while peer.read_exact(&mut [0; 1024]).await.is_ok() {
            tokio::time::sleep(SLOW).await;
        }
    });
    assert!(matches!(lane.task.await.unwrap(), LaneEnd::Stalled));
    assert!(begun.elapsed() <= 2 * PROGRESS_LIMIT);
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_large_value_that_is_begun_and_not_continued_is_given_up() {
    let (mut peer, b) = duplex(100_000);
    let lane = bulk(b);
    let header: Vec<u8> =
        [1000_u32, 1, 4 * MIB as u32].iter().flat_map(|field| field.to_be_bytes()).collect();
    peer.write_all(&[header, vec![0; 1000]].concat()).await.unwrap();
    assert!(matches!(lane.task.await.unwrap(), LaneEnd::Stalled));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_and_a_slow_but_steady_one_are_kept() {
    let (a, b) = duplex(64 * 1024);
    let (one, mut other) = (bulk(a), bulk(b));
    tokio::time::sleep(10 * PROGRESS_LIMIT).await;
    for _ in 0..20 {
        one.send(&[hit(1, 100_000)]);
        other.receive(1).await;
        tokio::time::sleep(PROGRESS_LIMIT / 3).await;
    }
    assert!(!one.task.is_finished() && !other.task.is_finished());
}

#[tokio::test]
async fn a_full_queue_gives_the_message_back() {
    let limits = QueueLimits { small: 10_000, bulk: MIB };
    let link = Link::new(
        (PeerKey([1; 32]), true, 1),
        String::new(),
        limits,
        &Arc::new(Budget::new(64 * MIB)),
        Traffic::default(),
    );
    let message = |at| Message::Hit { req: at, envelope: Bytes::from(vec![0; 1000]) };
    let taken = (0..100).take_while(|at| link.push(message(*at)).is_ok()).count();
    assert!((5..10).contains(&taken), "{taken} were taken");
    assert_eq!(link.push(message(7)), Err(message(7)));
}
