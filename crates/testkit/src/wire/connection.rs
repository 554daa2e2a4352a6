//! One client's connection: reads a request, decides what it gets, writes that, and notices when the client goes.

use std::{io, sync::Arc};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    Answer, Core, Service,
    behaviour::{Alteration, Hold, Kind, Step},
    http::{Incoming, Reader},
    play,
    reply::Reply,
    request::Request,
};

enum Plan {
    Reply(Box<Reply>),
    Later(tokio::sync::oneshot::Receiver<Reply>, Option<Arc<Alteration>>),
    Wire(Vec<Step>),
}

/// Serves the connection until either side ends it.
pub(super) async fn serve(mut stream: TcpStream, number: u64, core: &Core, service: &impl Service) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (read_half, mut out) = stream.split();
    let mut reader = Reader::new(read_half, number);
    loop {
        let Incoming { request, rpc, keep_alive } = match reader.next(&mut out).await {
            Ok(Some(incoming)) => incoming,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return out.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
            }
            Err(error) => return Err(error),
        };
        let _answering = core.streams.enter();
        let (plan, hold) = plan(core, service, &request, rpc.as_ref());
        core.record(request);
        let answer = async {
            if let Some(hold) = hold {
                hold.released().await;
            }
            match plan {
                Plan::Reply(reply) => play::reply(&mut out, &reply, &core.hub, keep_alive).await,
                Plan::Later(reply, change) => {
                    let Ok(reply) = reply.await else { return Ok(false) };
                    let reply = match change {
                        Some(change) => change(reply),
                        None => reply,
                    };
                    play::reply(&mut out, &reply, &core.hub, keep_alive).await
                }
                Plan::Wire(steps) => play::wire(&mut out, &steps).await.map(|()| false),
            }
        };
        // A client that has closed its side is gone: this is how a cancelled request shows.
        let reusable = tokio::select! {
            biased;
            reusable = answer => reusable?,
            () = reader.closed() => false,
        };
        if !reusable {
            return Ok(());
        }
    }
}

fn plan(core: &Core, service: &impl Service, request: &Request, rpc: Option<&Value>) -> (Plan, Option<Hold>) {
    let served = |change: Option<Arc<Alteration>>| match (service.answer(request, rpc), change) {
        (Answer::Now(reply), None) => Plan::Reply(reply),
        (Answer::Now(reply), Some(change)) => Plan::Reply(Box::new(change(*reply))),
        (Answer::Later(reply), change) => Plan::Later(reply, change),
    };
    let plan = match core.rules.pick(request).0 {
        Kind::Serve => served(None),
        Kind::Alter(change) => served(Some(change)),
        Kind::Hold(hold) => return (served(None), Some(hold)),
        Kind::Reply(reply) => {
            let id = rpc.and_then(|rpc| rpc.get("id")).unwrap_or(&Value::Null);
            Plan::Reply(Box::new(reply.with_id(id)))
        }
        Kind::Wire(steps) => Plan::Wire(steps),
        Kind::Lose(steps) => {
            drop(service.answer(request, rpc));
            Plan::Wire(steps)
        }
    };
    (plan, None)
}
