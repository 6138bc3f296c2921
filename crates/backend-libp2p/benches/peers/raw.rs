//! The reference: tokio TCP with nothing on it but frames, no encryption and no copies that can be
//! left out. A question has 48 bytes, as ours has; an answer has a head of 14 and the value.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const QUESTION: usize = 48;
const HEAD: usize = 14;

/// Answers for ever.
pub(crate) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(answer(stream));
    }
}

async fn answer(stream: TcpStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let (mut question, mut out) = ([0; QUESTION], Vec::new());
    let value = vec![7; 1024 * 1024];
    while reader.read_exact(&mut question).await.is_ok() {
        let length = u32::from_be_bytes(question[8..12].try_into().unwrap()) as usize;
        out.extend_from_slice(&question[..HEAD]);
        out.extend_from_slice(&value[..length]);
        // Everything that has come in is answered with one write.
        if reader.buffer().len() < QUESTION {
            if writer.write_all(&out).await.is_err() {
                return;
            }
            out.clear();
        }
    }
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<usize>>>>;

/// One connection, many questions at a time.
pub(crate) struct Client {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Waiting,
    next: AtomicU64,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let waiting = Waiting::default();
        tokio::spawn(read(BufReader::with_capacity(64 * 1024, reader), Arc::clone(&waiting)));
        Self { writer: writer.into(), waiting, next: AtomicU64::new(0) }
    }

    pub(crate) async fn get(&self, bytes: usize) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, sender);
        let mut question = [0; QUESTION];
        question[..8].copy_from_slice(&id.to_be_bytes());
        question[8..12].copy_from_slice(&u32::try_from(bytes).unwrap().to_be_bytes());
        self.writer.lock().await.write_all(&question).await.unwrap();
        assert_eq!(answer.await.unwrap(), bytes);
    }
}

async fn read(mut reader: BufReader<tokio::net::tcp::OwnedReadHalf>, waiting: Waiting) {
    let mut head = [0; HEAD];
    while reader.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes(head[8..12].try_into().unwrap()) as usize;
        let mut value = vec![0; length];
        reader.read_exact(&mut value).await.unwrap();
        let id = u64::from_be_bytes(head[..8].try_into().unwrap());
        let sender = waiting.lock().unwrap().remove(&id);
        sender.unwrap().send(value.len()).ok();
    }
}
