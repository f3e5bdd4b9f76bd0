//! IPv4 addresses of the interfaces, asked of the kernel. No file has them with their interfaces: `/proc/net/route` shows an address
//! only by its route, and one of a host alone (`/32`), or one that was added with `noprefixroute`, has none.

use std::net::Ipv4Addr;

use rustix::io::Errno;
use rustix::net::netdevice::index_to_name;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// Of `netlink.h`: ends of an answer.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// Of `rtnetlink.h` and `if_addr.h`.
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFA_LOCAL: u16 = 2;
/// Bytes before the attributes: of a message, and of what it says about an address.
const HEADER: usize = 16;
const ABOUT: usize = 8;
/// Largest part of an answer: the kernel's own limit.
const MAX_PART: usize = 32 << 10;

/// An address with the index of its interface.
type Found = (u32, Ipv4Addr);

/// A line for each address: the interface's name, and the address. It may wait for the kernel's lock of the network.
pub(super) fn read() -> Result<Vec<u8>, Errno> {
    // The protocol of routes and addresses, `NETLINK_ROUTE`, is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut request = Vec::new();
    request.extend(u32::try_from(HEADER + ABOUT).unwrap_or_default().to_ne_bytes());
    request.extend(RTM_GETADDR.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 8]);
    // The family, and zeros for all else: of every interface.
    request.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut text = String::new();
    let mut part = vec![0; MAX_PART];
    loop {
        let (length, _) = recv(&socket, part.as_mut_slice(), RecvFlags::empty())?;
        let (found, more) = parse(&part[..length])?;
        for (index, address) in found {
            // An interface that has just gone has no name.
            if let Ok(name) = index_to_name(&socket, index) {
                text.extend([&name, " ", &address.to_string(), "\n"]);
            }
        }
        if !more {
            return Ok(text.into_bytes());
        }
    }
}

/// The addresses of one part of the answer, and true when another one follows.
fn parse(mut part: &[u8]) -> Result<(Vec<Found>, bool), Errno> {
    let mut found = Vec::new();
    while let Some((length, kind)) =
        Some(part).filter(|part| part.len() >= HEADER).map(|part| (u32_at(part, 0), u16_at(part, 4)))
    {
        let Some(message) =
            usize::try_from(length).ok().filter(|length| *length >= HEADER).and_then(|end| part.get(..end))
        else {
            return Err(Errno::IO);
        };
        match kind {
            NLMSG_DONE => return Ok((found, false)),
            NLMSG_ERROR => {
                let error = message.get(HEADER..HEADER + 4).map_or(0, |_| u32_at(message, HEADER).cast_signed());
                return Err(Errno::from_raw_os_error(error.checked_neg().filter(|error| *error > 0).unwrap_or(5)));
            }
            RTM_NEWADDR if message.len() >= HEADER + ABOUT => {
                let index = u32_at(message, HEADER + 4);
                found.extend(local(&message[HEADER + ABOUT..]).map(|address| (index, address)));
            }
            _ => {}
        }
        part = &part[padded(message.len()).min(part.len())..];
    }
    Ok((found, true))
}

/// The interface's own address among the attributes.
fn local(mut attributes: &[u8]) -> Option<Ipv4Addr> {
    while attributes.len() >= 4 {
        let length = usize::from(u16_at(attributes, 0));
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2) == IFA_LOCAL {
            return <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
        }
        attributes = &attributes[padded(length).min(attributes.len())..];
    }
    None
}

/// Messages and attributes begin at multiples of four bytes.
fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(padded(bytes.len()), 0);
        bytes
    }

    fn address(index: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![2, 32, 0, 0];
        body.extend(index.to_ne_bytes());
        for (kind, value) in attributes {
            body.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(padded(body.len()), 0);
        }
        message(RTM_NEWADDR, &body)
    }

    #[test]
    fn addresses_are_read_up_to_the_end_of_the_answer() {
        let answer = [
            address(1, &[(1, &[127, 0, 0, 1]), (IFA_LOCAL, &[127, 0, 0, 1]), (3, b"lo\0")]),
            address(7, &[(3, b"eth9:a\0"), (IFA_LOCAL, &[10, 1, 2, 3])]),
        ];
        let (found, more) = parse(&answer.concat()).unwrap();
        assert_eq!(found, [(1, Ipv4Addr::LOCALHOST), (7, Ipv4Addr::new(10, 1, 2, 3))]);
        assert!(more);
        assert_eq!(parse(&message(NLMSG_DONE, &[0; 4])).unwrap(), (Vec::new(), false));
        assert_eq!(parse(&message(NLMSG_ERROR, &(-1i32).to_ne_bytes())), Err(Errno::PERM));
    }

    #[test]
    fn an_answer_that_is_cut_or_garbage_ends_quietly() {
        let answer = address(7, &[(3, b"eth9\0"), (IFA_LOCAL, &[10, 1, 2, 3])]);
        for length in 0..answer.len() {
            let _ = parse(&answer[..length]);
            let mut damaged = answer.clone();
            damaged[length] ^= 0xff;
            let _ = parse(&damaged);
        }
    }

    #[test]
    fn this_host_has_its_own_address() {
        // Where a sandbox forbids the socket, the error says so.
        if let Ok(text) = read() {
            let text = String::from_utf8(text).unwrap();
            assert!(
                text.lines().all(|line| line.split(' ').nth(1).is_some_and(|a| a.parse::<Ipv4Addr>().is_ok())),
                "{text}"
            );
        }
    }
}
