use super::*;
use crate::mqtt::failure::Failure;

fn read_connack(bytes: &[u8], protocol: Protocol) -> Result<Welcome, Failure> {
    let (packet, frame) = one_frame(&mut BytesMut::from(bytes)).unwrap().unwrap();
    connack(&packet, &frame, protocol)
}

fn refusal(bytes: &[u8], protocol: Protocol) -> String {
    read_connack(bytes, protocol).unwrap_err().to_string()
}

#[test]
fn connect_asks_for_a_kept_session_within_our_limits() {
    let mut out = BytesMut::new();
    let mut hello = Hello {
        protocol: Protocol::V5,
        client_id: "fieldlog-test",
        username: Some("u"),
        password_file: None,
        keep_alive: Duration::from_secs(30),
        session_expiry: Some(Duration::from_secs(604_800)),
        receive_window: 1000,
        packet_bytes_max: 65_536,
        will: None,
    };
    connect(&hello, "p".into(), &mut out).unwrap();
    let Ok(v5::Packet::Connect(packet, None, Some(login))) = v5::Packet::read(&mut out, None) else {
        panic!()
    };
    assert!(!packet.clean_start);
    let said = packet.properties.unwrap();
    assert_eq!(said.session_expiry_interval, Some(604_800));
    assert_eq!(
        (said.receive_maximum, said.max_packet_size, said.topic_alias_max),
        (Some(1000), Some(65_536), None)
    );
    assert_eq!((&login.username[..], &login.password[..]), ("u", "p"));

    hello.protocol = Protocol::V4;
    connect(&hello, String::new(), &mut out).unwrap();
    let Ok(v4::Packet::Connect(packet)) = v4::Packet::read(&mut out, 1000) else { panic!() };
    assert!(!packet.clean_session);
}

#[test]
fn what_the_broker_offers_is_heard() {
    let mut out = BytesMut::new();
    let properties = v5::ConnAckProperties {
        session_expiry_interval: Some(60),
        receive_max: Some(10),
        max_qos: Some(0),
        retain_available: None,
        max_packet_size: Some(9),
        assigned_client_identifier: Some("given".into()),
        topic_alias_max: None,
        reason_string: None,
        user_properties: vec![],
        wildcard_subscription_available: Some(0),
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: Some(0),
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    let code = v5::ConnectReturnCode::Success;
    let packet = v5::ConnAck { session_present: true, code, properties: Some(properties) };
    v5::Packet::ConnAck(packet).write(&mut out, None).unwrap();
    let expected = Welcome {
        session_present: true,
        server_keep_alive: Some(0),
        assigned_client_id: Some("given".into()),
        qos_max: Some(0),
        session_expiry_s: Some(60),
        no_wildcards: true,
        receive_max: Some(10),
        packet_bytes_max: Some(9),
    };
    assert_eq!(read_connack(&out, Protocol::V5).unwrap(), expected);
    assert!(read_connack(&[0x20, 2, 1, 0], Protocol::V4).unwrap().session_present);

    let refused = subscribe(&[("a/+".into(), 1), ("b".into(), 1)], &expected, Protocol::V5, &mut out);
    assert!(refused.unwrap_err().to_string().ends_with("need them: a/+"));
}

#[test]
fn refusals_are_put_into_words() {
    for connack in [&[0x20, 2, 0, 5][..], &[0x20, 3, 0, 0x87, 0]] {
        let protocol = if connack.len() == 4 { Protocol::V4 } else { Protocol::V5 };
        assert!(refusal(connack, protocol).contains("not authorized: check `username` and `password_file`"));
    }
    assert!(refusal(&[0x20, 3, 0, 0x86, 0], Protocol::V5).contains("`password_file`"));
    assert!(refusal(&[0x20, 2, 0, 1], Protocol::V5).contains("`protocol = 4`"));
    assert!(refusal(&[0x20, 3, 0, 0xf0, 0], Protocol::V5).contains("unspecified"));
    assert!(refusal(&[0xf0, 2, 0x18, 0], Protocol::V5).contains("AUTH"));
    assert!(refusal(&[0x20, 1, 0], Protocol::V4).contains("malformed CONNACK"));
    let with_words = [0x20, 11, 0, 0x87, 8, 31, 0, 5, b'n', b'o', b'\n', b'p', b'e'];
    assert!(refusal(&with_words, Protocol::V5).ends_with(", \"nope\""));
}

#[test]
fn many_filters_go_out_in_several_packets() {
    let filters: Vec<_> = (0..20).map(|index| (format!("a/{index}"), 1)).collect();
    for protocol in [Protocol::V4, Protocol::V5] {
        let mut out = BytesMut::new();
        let waiting = subscribe(&filters, &Welcome::default(), protocol, &mut out).unwrap();
        let sizes: Vec<_> = waiting.iter().map(|subscription| subscription.filters.len()).collect();
        assert_eq!(sizes, [8, 8, 4]);
        let pkids: Vec<_> = waiting.iter().map(|subscription| subscription.pkid).collect();
        assert_eq!(pkids, [1, 2, 3]);
    }
}

#[test]
fn a_kept_session_is_not_sent_its_retained_messages_again() {
    for (session_present, rule) in
        [(true, v5::RetainForwardRule::OnNewSubscribe), (false, v5::RetainForwardRule::OnEverySubscribe)]
    {
        let mut out = BytesMut::new();
        let welcome = Welcome { session_present, ..Welcome::default() };
        subscribe(&[("a".into(), 1)], &welcome, Protocol::V5, &mut out).unwrap();
        let Ok(v5::Packet::Subscribe(packet)) = v5::Packet::read(&mut out, None) else { panic!() };
        assert_eq!(packet.filters[0].retain_forward_rule, rule);
    }
}

#[test]
fn each_filter_gets_its_answer() {
    let waiting = || vec![Subscription { pkid: 7, filters: vec![("a".into(), 1), ("b".into(), 1)] }];
    let answers = suback(&[0, 7, 0, 1, 0x87], &mut waiting(), Protocol::V5).unwrap();
    assert_eq!(answers[0].1, Ok(1));
    assert!(answers[1].1.unwrap_err().contains("not authorized"));
    let answers = suback(&[0, 7, 0x80, 0], &mut waiting(), Protocol::V4).unwrap();
    assert_eq!((answers[0].1, answers[1].1), (Err("unspecified error"), Ok(0)));

    for body in [&[0, 7, 0, 1][..], &[0, 7, 9, 1, 1], &[0]] {
        assert!(matches!(suback(body, &mut waiting(), Protocol::V5), Err(Failure::Malformed("SUBACK"))));
    }
    assert!(matches!(suback(&[0, 8, 0, 1, 1], &mut waiting(), Protocol::V5), Err(Failure::Unexpected(_))));
}
