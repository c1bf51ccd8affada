//! The engine's words: its volume-plugin API, JSON over HTTP (docs.docker.com, "Docker volume plugins"). Every answer carries `Err`, empty
//! where all went well, because that is what the engine shows.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response};

use super::volumes::{Told, Volumes};
use crate::session::{Failure, SessionError};

/// A longer request is none of the engine's.
const BODY_MAX: u64 = 1 << 20;

/// What a request may hold; each uses some of it.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    name: String,
    #[serde(rename = "ID")]
    id: String,
    opts: Option<BTreeMap<String, String>>,
}

/// Answers one request.
pub(super) fn answer(volumes: &Volumes, mut request: Request) {
    let (status, value) = match read(&mut request) {
        Ok(asked) => reply(volumes, request.url(), asked),
        Err((status, why)) => (status, json!({ "Err": why })),
    };
    let mut response = Response::from_string(value.to_string()).with_status_code(status);
    let kind = Header::from_bytes("Content-Type", "application/vnd.docker.plugins.v1.1+json");
    if let Ok(kind) = kind {
        response = response.with_header(kind);
    }
    if let Err(error) = request.respond(response) {
        tracing::warn!(%error, "the engine did not take an answer");
    }
}

fn read(request: &mut Request) -> Result<Asked, (u16, String)> {
    if *request.method() != Method::Post {
        return Err((405, "only POST is answered".to_owned()));
    }
    let mut body = Vec::new();
    let read = request.as_reader().take(BODY_MAX + 1).read_to_end(&mut body);
    read.map_err(|e| (400, format!("the request was cut: {e}")))?;
    if body.len() as u64 > BODY_MAX {
        return Err((413, "the request is larger than 1 MiB".to_owned()));
    }
    // `Plugin.Activate`, `List` and `Capabilities` may come without a body.
    if body.trim_ascii().is_empty() {
        return Ok(Asked::default());
    }
    serde_json::from_slice(&body).map_err(|e| (400, format!("the request is not understood: {e}")))
}

fn reply(volumes: &Volumes, call: &str, asked: Asked) -> (u16, Value) {
    let Asked { name, id, opts } = asked;
    let done = match call {
        "/Plugin.Activate" => Ok(json!({ "Implements": ["VolumeDriver"] })),
        "/VolumeDriver.Capabilities" => Ok(json!({ "Capabilities": { "Scope": "local" } })),
        "/VolumeDriver.Create" => volumes.create(&name, opts.unwrap_or_default()).map(|()| json!({})),
        "/VolumeDriver.Remove" => volumes.remove(&name).map(|()| json!({})),
        "/VolumeDriver.Mount" => volumes.mount(&name, &id).map(|at| json!({ "Mountpoint": text(&at) })),
        "/VolumeDriver.Unmount" => volumes.unmount(&name, &id).map(|()| json!({})),
        "/VolumeDriver.Path" => volumes.get(&name).map(|told| json!({ "Mountpoint": place(&told) })),
        "/VolumeDriver.Get" => volumes.get(&name).map(|told| json!({ "Volume": volume(&told) })),
        "/VolumeDriver.List" => {
            volumes.list().map(|all| json!({ "Volumes": all.iter().map(volume).collect::<Vec<_>>() }))
        }
        _ => return (404, json!({ "Err": "there is no such call" })),
    };
    match done {
        Ok(mut value) => {
            if let Some(fields) = value.as_object_mut() {
                fields.insert("Err".to_owned(), "".into());
            }
            (200, value)
        }
        Err(error) => {
            let why = sentence(&error);
            tracing::warn!(call, volume = name, id, why, "refused");
            (200, json!({ "Err": why }))
        }
    }
}

/// Only paths beneath the state directory are told, and a session's name is plain; should that directory's path not be UTF-8, the engine
/// could not use it.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn place(told: &Told) -> String {
    told.mountpoint.as_deref().map(text).unwrap_or_default()
}

fn volume(told: &Told) -> Value {
    json!({
        "Name": told.name,
        "Mountpoint": place(told),
        "Status": {
            "session": told.session.name().as_str(),
            "source": text(told.session.workspace()),
            "state": told.state,
            "users": told.users,
        },
    })
}

/// An error with its causes and its hint, as one line.
fn sentence(error: &SessionError) -> String {
    let Failure { message, causes, hint, .. } = Failure::from(error);
    let mut all = causes.into_iter().fold(message, |all, cause| format!("{all}: {cause}"));
    if let Some(hint) = hint {
        all.push_str(&format!(" (hint: {hint})"));
    }
    all
}
