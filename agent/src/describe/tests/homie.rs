//! From homieiot/convention, `convention.md` of 4.0.0, and <https://homieiot.github.io/specification/> for 5.

use super::*;

fn says(topic: &str, text: &str) -> Vec<Announcement> {
    announced(Announcer::Homie, topic, text).devices
}

#[test]
fn each_attribute_says_one_part() {
    let check = |field: &str, text: &str, parts: Parts, line: &str| {
        let [property] =
            <[Announcement; 1]>::try_from(says(&format!("homie/super-car/engine/temperature/{field}"), text))
                .unwrap();
        assert_eq!(property.device, Address::Topic("homie/super-car/engine/temperature".into()));
        assert_eq!((property.attributes[0].parts, told(&property)), (parts, vec![line.to_owned()]));
    };
    check("$unit", "°C", Parts::Unit, ", °C");
    check("$unit", "", Parts::Unit, "");
    check("$datatype", "float", Parts::DataType, ", number");
    check("$datatype", "integer", Parts::DataType, ", integer");
    check("$datatype", "boolean", Parts::DataType, ", boolean");
    check("$datatype", "color", Parts::DataType, ", text");
    check("$datatype", "odd", Parts::DataType, "");
    check("$format", "-20:120", Parts::Range, ", from -20, to 120");
    check("$format", "0:10:2", Parts::Range, ", from 0, to 10, by 2");
    check("$format", ":10", Parts::Range, ", to 10");
    check("$format", "OFF,ON", Parts::Range, ", one of OFF|ON");
    check("$format", "rgb", Parts::Range, "");
    check("$format", "rgb,hsv", Parts::Range, "");
    check("$settable", "true", Parts::Writable, ", writable");
    check("$settable", "false", Parts::Writable, ", read only");
    check("$settable", "maybe", Parts::Writable, "");
}

#[test]
fn a_name_is_that_of_a_device_or_of_a_property() {
    let [device, property] =
        <[Announcement; 2]>::try_from(says("homie/super-car/$name", "Super car")).unwrap();
    assert_eq!(device.device, Address::Availability(vec!["homie/super-car/$state".into()]));
    assert_eq!((device.parts, device.description), (Parts::Name, is("", "Super car", "", "")));
    assert_eq!(property.device, Address::Topic("homie/super-car".into()));
    assert_eq!(told(&property), [", Super car"]);
}

#[test]
fn other_attributes_describe_nothing() {
    for topic in
        ["homie/super-car/$nodes", "homie/super-car/$homie", "homie/super-car/engine/$properties", "homie"]
    {
        assert_eq!(says(topic, "x"), []);
    }
}

#[test]
fn a_description_of_version_5_says_all() {
    let payload = json!({
        "homie": "5.0", "name": "Supercar", "version": 7,
        "nodes": {
            "engine": {
                "name": "Car engine", "type": "V8",
                "properties": {
                    "speed": { "name": "Speed", "datatype": "float", "unit": "km/h", "format": "0:300:0.5" },
                    "direction": { "datatype": "enum", "format": "forward,backward", "settable": true },
                    "color": { "datatype": "color", "format": "rgb,hsv" },
                    "on": { "datatype": "boolean", "format": "off,on", "settable": "odd" },
                },
            },
            "empty": {},
        },
    });
    let device = one(announced(Announcer::Homie5, "homie/5/super-car/$description", payload));
    assert_eq!(device.device, Address::Availability(vec!["homie/5/super-car/$state".into()]));
    assert!(device.joined && device.complete && device.parts == Parts::Whole);
    assert_eq!(device.description, is("", "Supercar", "", ""));
    assert_eq!(
        told(&device),
        [
            "homie/5/super-car/engine/color, text, read only",
            "homie/5/super-car/engine/direction, enum, one of forward|backward, writable",
            "homie/5/super-car/engine/on, boolean, read only",
            "homie/5/super-car/engine/speed, Speed, km/h, number, from 0, to 300, by 0.5, read only",
        ]
    );
    let gone = one(announced(Announcer::Homie5, "homie/5/super-car/$description", ""));
    assert!(!gone.joined && gone.complete && gone.description.is_empty() && gone.parts == Parts::Whole);
}
