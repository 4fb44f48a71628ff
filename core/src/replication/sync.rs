//! Full synchronisation: a snapshot that goes to replicas, by a file or without one, while what changes meanwhile is kept
//! for them in the backlog.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backlog::StreamName;
use super::primary::{Replica, Stage, Without};
use crate::engine::Engine;
use crate::engine::outbox::Outbox;
use crate::engine::session::ClientId;
use crate::persistence::cut::{Fate, Purpose};
use crate::persistence::disk::Opened;

/// How much is handed to a connection at a time.
const CHUNK_LEN: usize = 64 << 10;
/// No more is handed to a connection that has so much still to write.
const AHEAD_LEN_MAX: u64 = 512 << 10;
/// How soon to look again whether a connection has written enough.
const PATIENCE: Duration = Duration::from_millis(1);

/// Replicas to which a snapshot is sent as it is drawn, and what is on its way to them.
pub struct Shipment {
    receivers: Vec<Arc<Outbox>>,
    chunk: Vec<u8>,
    /// By which the snapshot's end is known.
    mark: StreamName,
    fate: Arc<Fate>,
    without: Without,
}

impl Shipment {
    /// What is left out.
    pub fn without(&self) -> Without {
        self.without
    }

    /// Says how the end will be known.
    pub fn begin(&mut self) -> io::Result<()> {
        let head = format!("$EOF:{}\r\n", self.mark);
        self.write_all(head.as_bytes())?;
        // It may be long before there is more, and nothing else tells the replica that this server is there.
        self.flush()
    }

    /// All has been written: says that this was the end.
    pub fn end(&mut self) -> io::Result<()> {
        let mark = self.mark;
        self.write_all(mark.as_str().as_bytes())?;
        self.flush()
    }

    /// What it is called off by, when it is known.
    pub fn follow(&mut self, fate: Arc<Fate>) {
        self.fate = fate;
    }
}

impl Write for Shipment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_LEN - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_LEN {
            self.flush()?;
        }
        Ok(taken)
    }

    /// Hands on what there is, and waits until the slowest replica can take more.
    fn flush(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_LEN)));
        self.receivers.iter().for_each(|outbox| hand_over(outbox, &chunk));
        loop {
            self.receivers.retain(|outbox| !outbox.is_closing());
            if self.receivers.is_empty() || self.fate.is_cancelled() {
                return Err(ErrorKind::BrokenPipe.into());
            }
            if self.receivers.iter().all(|outbox| outbox.backlog() < AHEAD_LEN_MAX) {
                return Ok(());
            }
            std::thread::sleep(PATIENCE);
        }
    }
}

fn hand_over(outbox: &Outbox, chunk: &Bytes) {
    if outbox.push(chunk) {
        outbox.wake();
    }
}

/// A snapshot's file on its way to a replica.
pub struct Parcel {
    /// To whom.
    pub id: ClientId,
    outbox: Arc<Outbox>,
    file: Opened,
    /// How much of the file is still to be read.
    left: u64,
}

impl Parcel {
    /// A file for a replica.
    fn new(id: ClientId, outbox: Arc<Outbox>, file: Opened) -> Parcel {
        hand_over(&outbox, &Bytes::from(format!("${}\r\n", file.len)));
        Parcel { id, outbox, left: file.len, file }
    }

    /// Hands on what the replica can take. Says whether it has everything, or that it will not get it.
    fn advance(&mut self) -> io::Result<bool> {
        while self.outbox.backlog() < AHEAD_LEN_MAX && self.left > 0 {
            if self.outbox.is_closing() {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let mut chunk = vec![0; CHUNK_LEN.min(usize::try_from(self.left).unwrap_or(CHUNK_LEN))];
            self.file.data.read_exact(&mut chunk)?;
            self.left -= chunk.len() as u64;
            hand_over(&self.outbox, &Bytes::from(chunk));
        }
        if self.outbox.is_closing() { Err(ErrorKind::BrokenPipe.into()) } else { Ok(self.left == 0) }
    }
}

/// Sends files to replicas, each as fast as it takes it, and says of each when it has been handed everything, or that it
/// has not. False from `tell`: nobody is interested any more.
pub fn deliver(mut parcels: Vec<Parcel>, mut tell: impl FnMut(ClientId, bool) -> bool) {
    while !parcels.is_empty() {
        let mut wanted = true;
        parcels.retain_mut(|parcel| match parcel.advance() {
            Ok(false) => true,
            Ok(true) => {
                wanted &= tell(parcel.id, true);
                false
            }
            Err(error) => {
                if error.kind() != ErrorKind::BrokenPipe {
                    tracing::warn!("Read error sending DB to replica: {error}");
                }
                wanted &= tell(parcel.id, false);
                false
            }
        });
        if !wanted {
            return;
        }
        std::thread::sleep(PATIENCE);
    }
}

impl Engine {
    /// A replica needs the data: it is put to those that a snapshot is drawn for, or waits for the next.
    pub(super) fn begin_full(&mut self, replica: Replica) {
        self.replication.counts.full += 1;
        let id = replica.id;
        self.replication.replicas.insert(id, replica);
        if self.replication.backlog.is_none() {
            // Nothing was kept of what came before: nobody must take what follows for its continuation.
            if !self.replication.is_replica() {
                self.forget_stream_names();
            }
            self.begin_backlog();
            tracing::info!(
                "Replication backlog created, my new replication IDs are '{}' and '{}'",
                self.replication.name,
                self.replication.former
            );
        }
        if let Some(number) = self.persistence.drawing.as_ref().map(|drawing| drawing.number()) {
            self.join_snapshot(id, number);
            return;
        }
        let settings = &self.config.replication;
        let is_patient = self.replication.replicas.get(&id).is_some_and(|replica| replica.greeting.eof)
            && settings.repl_diskless_sync
            && settings.repl_diskless_sync_delay > 0;
        if is_patient {
            tracing::info!("Delay next BGSAVE for diskless SYNC");
            self.begin_if_enough();
        } else {
            self.begin_snapshot_for_replicas();
        }
    }

    /// There is a snapshot already: it serves if it is written to a file and others wait for it, as what has changed since
    /// is kept for these.
    fn join_snapshot(&mut self, id: ClientId, number: u64) {
        if self.draws_for_replicas() {
            tracing::info!("Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC");
            return;
        }
        let wants = |replica: &Replica| (replica.greeting.only_data, replica.greeting.without);
        let Some(own) = self.replication.replicas.get(&id).map(wants) else { return };
        let beside = self.replicas_at(Stage::Drawing(number)).find(|other| wants(other) == own);
        let Some(from) = beside.and_then(|other| other.feed.as_ref().map(|feed| feed.next())) else {
            tracing::info!(
                "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC"
            );
            return;
        };
        self.promise(id, number, from);
        tracing::info!("Waiting for end of BGSAVE for SYNC");
    }

    /// Whether the snapshot that is drawn goes to replicas and not to a file.
    pub(super) fn draws_for_replicas(&self) -> bool {
        self.persistence.drawing.as_ref().is_some_and(|drawing| drawing.purpose == Purpose::Replicas)
    }

    /// A replica is going to get a snapshot, and the stream from an offset on.
    fn promise(&mut self, id: ClientId, number: u64, from: u64) {
        let name = self.replication.name;
        let Some(backlog) = self.replication.backlog.clone() else { return };
        // Whoever is sent the data is in the first database then.
        self.replication.selected = None;
        let feed = self.feed(backlog, from);
        let Some(replica) = self.replication.replicas.get_mut(&id) else { return };
        replica.stage = Stage::Drawing(number);
        replica.outbox.feed_from(feed.clone());
        replica.feed = Some(feed);
        if !replica.is_old {
            let outbox = replica.outbox.clone();
            // By way of the connection's inbox, also in PSYNC itself: there is no reply beside it.
            if outbox.push(&Bytes::from(format!("+FULLRESYNC {name} {from}\r\n"))) {
                self.wake.push(outbox);
            }
        }
    }

    /// Begins a snapshot for those that wait, if it is time.
    pub(crate) fn begin_waiting_snapshots(&mut self) {
        if self.persistence.drawing.is_some() || self.loading {
            return;
        }
        let (waiting, longest_ms) = self.waiting();
        let settings = &self.config.replication;
        let delay_ms = i64::from(settings.repl_diskless_sync_delay) * 1000;
        if waiting > 0 && (!settings.repl_diskless_sync || longest_ms >= delay_ms) {
            self.begin_snapshot_for_replicas();
        }
    }

    /// Begins it if so many wait that it is not worth waiting for more.
    fn begin_if_enough(&mut self) {
        let enough = self.config.replication.repl_diskless_sync_max_replicas as usize;
        if enough > 0 && self.waiting().0 >= enough && self.persistence.drawing.is_none() {
            self.begin_snapshot_for_replicas();
        }
    }

    /// How many replicas wait for the same as the first of them, and for how long at most: milliseconds.
    fn waiting(&self) -> (usize, i64) {
        let mut waiting = self.replicas_at(Stage::Waiting).peekable();
        let Some(without) = waiting.peek().map(|first| first.greeting.without) else { return (0, 0) };
        waiting
            .filter(|replica| replica.greeting.without == without)
            .fold((0, 0), |(count, longest), replica| {
                (count + 1, longest.max(self.now_ms - replica.asked_ms))
            })
    }

    /// Begins a snapshot for all that wait for the same as the first of them.
    fn begin_snapshot_for_replicas(&mut self) {
        let mut waiting = self.replicas_at(Stage::Waiting).peekable();
        let Some(without) = waiting.peek().map(|first| first.greeting.without) else { return };
        let group: Vec<&Replica> = waiting.filter(|replica| replica.greeting.without == without).collect();
        let all_know_marks = group.iter().all(|replica| replica.greeting.eof);
        let is_shipped = (self.config.replication.repl_diskless_sync || without.anything()) && all_know_marks;
        let ids: Vec<ClientId> = group.iter().map(|replica| replica.id).collect();
        let is_only_for_them = !is_shipped && self.removes_sync_files();
        let receivers: Vec<Arc<Outbox>> = group.iter().map(|replica| replica.outbox.clone()).collect();
        let target = if is_shipped { "replicas sockets" } else { "disk" };
        tracing::info!("Starting BGSAVE for SYNC with target: {target}");
        let shipment = is_shipped.then(|| Shipment {
            receivers,
            chunk: Vec::with_capacity(CHUNK_LEN),
            // Who could foretell it could end the data by a value that they have stored.
            mark: StreamName::secret(),
            fate: Arc::default(),
            without,
        });
        // The snapshot is as of now, so the stream from here on follows it.
        let Some(number) = self.begin_drawing(shipment) else { return };
        self.replication.only_for_replicas |= is_only_for_them;
        let from = self.replication.offset;
        ids.into_iter().for_each(|id| self.promise(id, number, from));
    }

    /// A replica is gone. A snapshot that nobody wants any more is called off: where there are save points, one that is
    /// written to the file is wanted all the same.
    pub(super) fn leave_snapshot(&mut self, replica: &Replica) {
        let Stage::Drawing(number) = replica.stage else { return };
        let is_current = self.persistence.drawing.as_ref().is_some_and(|drawing| drawing.number() == number);
        if !is_current || self.replicas_at(replica.stage).next().is_some() {
            return;
        }
        let is_shipped = self.draws_for_replicas();
        if is_shipped {
            tracing::info!("Diskless rdb transfer, last replica dropped, killing fork child.");
        }
        if is_shipped || self.config.persistence.save.0.is_empty() {
            self.cancel_background_save();
        }
    }

    /// To how many the file of a snapshot is to be sent.
    pub(crate) fn count_receivers(&self, number: u64) -> usize {
        self.replicas_at(Stage::Drawing(number)).count()
    }

    fn receivers_of(&self, number: u64) -> Vec<ClientId> {
        self.replicas_at(Stage::Drawing(number)).map(|replica| replica.id).collect()
    }

    /// A snapshot's file is written, and goes to those that it was drawn for, as far as one was opened for each. From here
    /// on nothing else is said to these, and nobody joins them.
    pub(crate) fn hand_out(&mut self, number: u64, files: &mut Vec<Opened>) -> Vec<Parcel> {
        let awaiting = self.replication.replicas.values_mut();
        let awaiting = awaiting.filter(|replica| replica.stage == Stage::Drawing(number));
        let parcel = |replica: &mut Replica| {
            let file = files.pop()?;
            replica.stage = Stage::Sending(number);
            Some(Parcel::new(replica.id, replica.outbox.clone(), file))
        };
        awaiting.map_while(parcel).collect()
    }

    /// The snapshot for replicas has come to its end.
    pub(crate) fn note_drawn(&mut self, number: u64, is_ok: bool, is_shipped: bool) {
        let ids = self.receivers_of(number);
        if is_shipped && is_ok {
            tracing::warn!("Diskless rdb transfer, done reading from pipe, {} replicas still up.", ids.len());
        }
        for id in ids {
            if !is_ok {
                tracing::warn!("SYNC failed. BGSAVE child returned an error");
                self.kill(id);
            } else if is_shipped {
                self.note_received(id, true);
            }
        }
    }

    /// A replica has been handed all data, or it cannot be.
    pub(crate) fn note_received(&mut self, id: ClientId, is_ok: bool) {
        let now_ms = self.now_ms;
        let Some(replica) = self.replication.replicas.get_mut(&id) else { return };
        if !is_ok {
            self.kill(id);
            return;
        }
        let is_shipped = matches!(replica.stage, Stage::Drawing(_));
        replica.acked_ms = now_ms;
        if replica.greeting.only_data {
            tracing::info!(
                "RDB transfer completed, rdb only replica ({}) should be disconnected asap",
                replica.called()
            );
            replica.stage = Stage::Sated;
            replica.feed = None;
            return;
        }
        replica.stage = Stage::Online;
        if is_shipped {
            tracing::info!(
                "Streamed RDB transfer with replica {} succeeded (socket). Waiting for REPLCONF ACK from slave to enable \
                 streaming",
                replica.called()
            );
            // It finds the end by the mark, and must not find anything behind it before it says so.
            replica.starts_on_ack = true;
            self.count_good_replicas();
        } else {
            self.start_stream(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::outbox::Piece;

    fn bytes(outbox: &Outbox) -> Vec<u8> {
        let mut pieces: Vec<Piece> = Vec::new();
        outbox.take(&mut pieces);
        pieces.iter().flat_map(|piece| piece.bytes().to_vec()).collect()
    }

    #[test]
    fn a_shipment_goes_to_all_until_none_is_left() {
        let receivers: Vec<Arc<Outbox>> = (0..2).map(|_| Arc::new(Outbox::new())).collect();
        let mut shipment = Shipment {
            receivers: receivers.clone(),
            chunk: Vec::new(),
            mark: StreamName::NONE,
            fate: Arc::default(),
            without: Without::default(),
        };
        shipment.begin().unwrap();
        shipment.write_all(&[b'x'; 100_000]).unwrap();
        receivers[1].close();
        shipment.end().unwrap();
        let whole = [&b"$EOF:"[..], &[b'0'; 40], b"\r\n", &[b'x'; 100_000], &[b'0'; 40]].concat();
        assert_eq!(bytes(&receivers[0]), whole);
        receivers[0].close();
        assert!(shipment.write_all(&[b'x'; 100_000]).is_err());
    }

    #[test]
    fn a_file_is_delivered_to_each() {
        let outboxes: Vec<Arc<Outbox>> = (0..3).map(|_| Arc::new(Outbox::new())).collect();
        let file = || Opened { len: 100_000, data: Box::new(io::Cursor::new(vec![b'x'; 100_000])) };
        let parcels: Vec<Parcel> =
            (0..).zip(&outboxes).map(|(id, outbox)| Parcel::new(id, outbox.clone(), file())).collect();
        outboxes[1].close();
        let mut told = Vec::new();
        deliver(parcels, |id, is_ok| {
            told.push((id, is_ok));
            true
        });
        told.sort_unstable();
        assert_eq!(told, [(0, true), (1, false), (2, true)]);
        assert_eq!(bytes(&outboxes[2]), [&b"$100000\r\n"[..], &[b'x'; 100_000]].concat());
    }
}
