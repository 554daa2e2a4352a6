//! One client's connection: reads a request, decides what it gets, writes that, and notices when the client goes.

use std::{io, sync::Arc};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    Shared,
    behaviour::{Kind, Step},
    http::{Incoming, Reader},
    http_sse, play,
    reply::Reply,
    request::Request,
};

enum Plan {
    Reply(Box<Reply>),
    Wire(Vec<Step>),
}

/// Serves the connection until either side ends it.
pub(super) async fn serve(mut stream: TcpStream, number: u64, shared: Arc<Shared>) -> io::Result<()> {
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
        let _answering = shared.streams.enter();
        let plan = plan(&shared, &request, rpc.as_ref());
        shared.record(request);
        let answer = async {
            match &plan {
                Plan::Reply(reply) => play::reply(&mut out, reply, &shared.protocol.hub, keep_alive).await,
                Plan::Wire(steps) => play::wire(&mut out, steps).await.map(|()| false),
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

fn plan(shared: &Shared, request: &Request, rpc: Option<&Value>) -> Plan {
    match shared.rules.pick(request).0 {
        Kind::Serve => Plan::Reply(Box::new(proper(shared, request, rpc))),
        Kind::Alter(change) => Plan::Reply(Box::new(change(proper(shared, request, rpc)))),
        Kind::Reply(reply) => {
            let id = rpc.and_then(|rpc| rpc.get("id")).unwrap_or(&Value::Null);
            Plan::Reply(Box::new(reply.with_id(id)))
        }
        Kind::Wire(steps) => Plan::Wire(steps),
    }
}

/// The answer of a server that behaves.
fn proper(shared: &Shared, request: &Request, rpc: Option<&Value>) -> Reply {
    let path = request.path();
    if let Some(reply) = shared.route(path) {
        return reply;
    }
    let messages = shared.protocol.http_sse && path == http_sse::MESSAGES;
    if path != shared.path && !messages {
        return Reply::text(404, "Not Found");
    }
    if let Err(refusal) = shared.gate.check(request) {
        return refusal;
    }
    if messages { http_sse::message(&shared.protocol, request, rpc) } else { shared.protocol.answer(request, rpc) }
}
