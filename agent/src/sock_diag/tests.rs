use super::*;
use std::{
    io::Write,
    net::{TcpListener, TcpStream},
};

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes
}

/// An `inet_diag_msg` of IPv4.
fn body(state: u8) -> Vec<u8> {
    let mut body = vec![0; MESSAGE];
    (body[0], body[1]) = (libc::AF_INET as u8, state);
    body[4..6].copy_from_slice(&8080_u16.to_be_bytes());
    body[6..8].copy_from_slice(&4000_u16.to_be_bytes());
    body[8..12].copy_from_slice(&[10, 0, 0, 1]);
    body[24..28].copy_from_slice(&[10, 0, 0, 2]);
    body[44..52].copy_from_slice(&7_u64.to_ne_bytes());
    body[68..72].copy_from_slice(&9_u32.to_ne_bytes());
    body
}

#[test]
fn attributes_are_found_and_broken_ones_are_not_followed() {
    let bytes = [8, 0, 1, 0, 9, 9, 9, 9, 6, 0, 2, 0x80, 7, 8, 0, 0];
    assert_eq!(attribute(&bytes, 1), Some(&[9, 9, 9, 9][..]));
    assert_eq!(attribute(&bytes, 2), Some(&[7, 8][..]));
    assert_eq!(attribute(&bytes, 3), None);
    for broken in [&bytes[..3], &[0, 0, 1, 0][..], &[3, 0, 1, 0][..], &[9, 0, 1, 0, 1][..]] {
        assert_eq!(attribute(broken, 1), None);
    }
}

#[test]
fn messages_end_the_answer_or_carry_an_error() {
    let none = &mut |_: &Found<'_>| panic!("there is no socket");
    assert!(read(&message(NLMSG_DONE, &[0; 4]), none).unwrap());
    assert!(read(&message(NLMSG_ERROR, &[0; 4]), none).unwrap(), "an acknowledgement");
    let refused = read(&message(NLMSG_ERROR, &(-libc::EPERM).to_ne_bytes()), none);
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EPERM));
    for odd in [i32::MIN, i32::MAX, 1] {
        assert!(read(&message(NLMSG_ERROR, &odd.to_ne_bytes()), none).is_err());
    }
    assert!(read(&[0xff; 20], none).is_err());
    assert!(absent::<()>(Err(Errno::ENOENT.into())).unwrap().is_none());
    assert!(absent::<()>(Err(Errno::EPERM.into())).is_err());
}

#[test]
fn sockets_are_read_and_odd_bytes_are_passed_over() {
    let one = message(SOCK_DIAG_BY_FAMILY, &body(state::ESTABLISHED));
    let mut seen = Vec::new();
    let ended = read(&one.repeat(2), &mut |f| seen.push((f.local, f.remote, f.cookie, f.inode, f.state)));
    let [local, remote] = ["10.0.0.1:8080", "10.0.0.2:4000"].map(|at| at.parse().unwrap());
    assert!(!ended.unwrap());
    assert_eq!(seen, [(local, remote, 7, 9, state::ESTABLISHED); 2]);
    for end in 0..MESSAGE {
        let cut = message(SOCK_DIAG_BY_FAMILY, &body(1)[..end]);
        assert!(!read(&cut, &mut |_| panic!("{end} bytes are no socket")).unwrap());
    }
}

#[test]
fn a_request_is_as_long_as_it_says() {
    let at = "10.0.0.1:1".parse().unwrap();
    let request = Request { kind: 20, flags: 1, extensions: 2, states: 3, ends: (at, at), cookie: ANY };
    for more in [&[][..], &[0; 12]] {
        let bytes = request.bytes(more);
        assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32));
        assert_eq!(bytes.len(), HEADER + REQUEST + more.len());
    }
    assert_eq!(state::only(&[1, 10]), 1 << 1 | 1 << 10);
}

#[test]
fn the_socket_of_that_cookie_is_destroyed_and_no_other() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root to destroy a socket");
        return;
    }
    let diag = SockDiag::open().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let cookie = rustix::net::sockopt::socket_cookie(&client).unwrap();
    assert_eq!(diag.find(local, remote).unwrap(), Some(cookie));
    let mut listed = Vec::new();
    let live = state::only(&[state::ESTABLISHED]);
    diag.each(live, 0, &[], |f| listed.extend((f.local == local).then_some((f.remote, f.cookie)))).unwrap();
    assert_eq!(listed, [(remote, cookie)]);

    assert!(!diag.destroy(local, remote, cookie + 1).unwrap());
    assert!(!diag.destroy(local, "127.0.0.1:1".parse().unwrap(), cookie).unwrap());
    client.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut [0; 4]).unwrap(), 1);

    assert!(diag.destroy(local, remote, cookie).unwrap());
    assert_eq!(server.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(client.read(&mut [0; 4]).is_err());

    // What is left at the server's address is the listener, which is nobody's connection.
    drop(server);
    assert_eq!(diag.find(remote, local).unwrap(), None);
    TcpStream::connect(remote).unwrap();
}
