// Which of a device's values matter, and how people say them.

import { value } from './words.js';

/** Last part of a name, as `temperature` of `BME280.Temperature` and `apower` of `switch:0.apower`. */
const key = (name) => name.slice(Math.max(name.lastIndexOf('.'), name.lastIndexOf('/')) + 1).toLowerCase();

// What a name or a device class says first is shown first. Numbers of the radio and of the device itself come last.
const FIRST = [
  /^(smoke|gas|carbon_monoxide|water_leak|leak|moisture|alarm|problem|safety)$/,
  /^(contact|door|window|opening|garage_door|lock|lock_state)$/,
  /^(occupancy|presence|motion)$/,
  /^(state|power\d?|output|position|running_state|system_mode|hvac_mode)$/,
  /^(temperature|local_temperature|current_temperature|tc)$/,
  /^(humidity|moisture|soil_moisture|rh|carbon_dioxide|co2|pm25|pm10|voc|formaldehyde|aqi)$/,
  /^(apower|active_power|power_w|act_power|total_act_power)$/,
  /^(brightness|occupied_heating_setpoint|target_temperature|setpoint)$/,
  /^(illuminance|illuminance_lux|lux|pressure|atmospheric_pressure|wind_speed|precipitation|distance|speed|volume|flow)$/,
  /^(energy|total|today|current|voltage|apparentpower|reactivepower|factor|freq|frequency)$/,
  /^(battery|battery_low|tamper)$/,
];
const LAST =
  /linkquality|rssi|signal|lqi|uptime|last_seen|^update\.|firmware|version|mac$|bssid|ssid|(^|\.)(wifi|sys|mqtt|cloud)\.|mqttcount|(^|\.)(id|ip|sta_ip)$|starttime|color|downtime|source$|device_temperature|tempunit|restart_required/i;

/** The smaller, the more it matters; 50 and more: it does not. */
function rank(name, cls, v) {
  if (LAST.test(name)) return 50;
  // A battery's voltage says what its percentage says.
  if (key(name) === 'voltage' && typeof v === 'number' && v > 1_000) return 50;
  if (v !== null && typeof v === 'object') return 40;
  const by = (text) => FIRST.findIndex((pattern) => pattern.test(text));
  const own = by(key(name));
  const found = cls && own < 0 ? by(cls) : own;
  return found < 0 ? 30 : found;
}

/** What is computed was declared by somebody because it matters: it comes after alarms and before readings. */
const COMPUTED = 3;

/** Names of the attributes, those that matter most first; `computed` has the names of those that are computed. */
export function ranked(attributes, classes, computed) {
  const all = [...attributes].map(([name, v], index) => {
    const found = rank(name, classes?.get(name), v);
    return [computed?.has(name) ? Math.min(found, COMPUTED) : found, index, name];
  });
  return all.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
}

/** The few that matter. */
export function main(attributes, classes, max, computed) {
  return ranked(attributes, classes, computed)
    .filter(([order]) => order < 40)
    .slice(0, max)
    .map(([, , name]) => name);
}

const WORDS = {
  contact: ['open', 'closed'],
  occupancy: ['nobody', 'somebody'],
  presence: ['nobody', 'somebody'],
  motion: ['still', 'motion'],
  water_leak: ['dry', 'LEAK'],
  smoke: ['none', 'SMOKE'],
  gas: ['none', 'GAS'],
  tamper: ['no', 'tampered'],
  battery_low: ['good', 'low'],
  output: ['off', 'on'],
  state: ['off', 'on'],
  power: ['off', 'on'],
};

const rounded = new Intl.NumberFormat('en', { maximumFractionDigits: 2, useGrouping: false });

/** A value in words. Only names whose truth values mean the same everywhere are put into other words. */
export function say(name, v, unit) {
  if (typeof v === 'boolean') return (WORDS[key(name)] ?? ['no', 'yes'])[Number(v)];
  if (typeof v === 'string' && /^(ON|OFF)$/.test(v)) return v.toLowerCase();
  if (typeof v === 'number') return `${Math.abs(v) < 0.01 && v !== 0 ? v : rounded.format(v)}${unit ? ` ${unit}` : ''}`;
  if (typeof v === 'bigint') return `${v}${unit ? ` ${unit}` : ''}`;
  return value(v);
}

/** A name for people: the announced one, or the last part of the name; the whole name where that is not one of a kind. */
export function label(name, all, said) {
  if (said) return said;
  const short = key(name);
  const alone = ![...all].some((other) => other !== name && key(other) === short);
  const text = (alone ? name.slice(name.length - short.length) : name).replaceAll('_', ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Whether a number of the battery, in percent, is low, or the device says so. */
export function batteryLow(attributes, units) {
  for (const [name, v] of attributes) {
    const short = key(name);
    if (short === 'battery_low' && v === true) return 'battery low';
    if (/^battery(_level|_percent)?$/.test(short) && typeof v === 'number' && v < 20 && (units?.get(name) ?? '%') === '%') return `battery ${v} %`;
  }
  return null;
}

/** Whether something is on in a timeline: true, on, open; false for off; null: neither. */
export function isOn(v) {
  if (typeof v === 'boolean') return v;
  if (typeof v === 'string' && /^(on|open|home|online|heat|active|locked|yes)$/i.test(v)) return true;
  if (typeof v === 'string' && /^(off|closed|away|offline|idle|unlocked|no)$/i.test(v)) return false;
  return null;
}
