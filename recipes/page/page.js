// Runs model.tflite on a photograph and shows the classes, and a layer's attention over it.
//
// What the file takes and gives is in model.json, which recipes/browser.py writes from the file's
// own metadata. The photograph is read as keras_fmm.data.load_image reads it.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { fitted, heatColour, inputOf, pixelsOf, reduced, resized } from "./images.js";

const MOST_CLASSES = 10;
const LONGEST_SIDE = 640; // of the photograph as it is shown

const byId = (id) => document.getElementById(id);

let model; // model.json
let network; // the compiled file
let shown; // what is drawn: the photograph, and the map or null
let latest = 0; // the number of the photograph that was asked for last

function say(text, isError = false) {
  byId("message").textContent = text;
  byId("message").classList.toggle("error", isError);
}

async function load() {
  const answer = await fetch("model.json");
  if (!answer.ok) {
    throw new Error("model.json is not there: make this folder with python -m recipes.browser");
  }
  model = await answer.json();
  await loadLiteRt("runtime/core/wasm/");
  network = await loadAndCompile("model.tflite", { accelerator: "wasm" });
  const taken = network.getInputDetails().map((x) => [...x.shape].join());
  const given = network.getOutputDetails().map((x) => [...x.shape].join());
  const expected = [[1, model.input.height, model.input.width, model.input.channels].join()];
  if (taken.join() !== expected.join() || given.length !== model.outputs.length) {
    throw new Error("model.json is not of this file: make this folder with recipes.browser");
  }
}

// What a tensor's numbers stand for.
function floats(values, { scale, zero_point: zero }) {
  return scale === null ? [...values] : Array.from(values, (x) => (x - zero) * scale);
}

// Returns the scores, and the map as {height, width, channels, values} or null.
async function run(pixels) {
  const { height, width, channels } = model.input;
  const input = new Tensor(inputOf(pixels, model.input), [1, height, width, channels]);
  let outputs = {};
  try {
    outputs = await network.run({ [network.getInputDetails()[0].name]: input });
    // By name: output_0 has the scores, output_1 the map.
    const names = Object.keys(outputs).sort();
    const [scores, map] = names.map((name, i) =>
      floats(outputs[name].toTypedArray(), model.outputs[i]),
    );
    if (map === undefined) {
      return { scores, map: null };
    }
    const [, high, wide, deep] = model.outputs[1].shape;
    return { scores, map: { height: high, width: wide, channels: deep, values: map } };
  } finally {
    // LiteRT's memory is not collected.
    input.delete();
    Object.values(outputs).forEach((output) => output.delete());
  }
}

async function look(file) {
  const number = ++latest;
  byId("found").hidden = true;
  say(`Looking at ${file.name}`);
  let photo;
  try {
    // Upright, as its EXIF data says; a colour profile is not looked at.
    photo = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name} is not an image that this browser reads. Take a JPEG or PNG.`);
  }
  const { height, width, channels, fit } = model.input;
  let pixels = pixelsOf(photo, channels);
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (first === 0xff && second === 0xd8) {
    pixels = reduced(pixels, height, width); // A JPEG, whatever it is called.
  }
  const { scores, map } = await run(resized(pixels, height, width, fit, photo));
  if (number !== latest) {
    photo.close();
    return; // Another photograph was given meanwhile.
  }
  if (!scores.concat(map ? map.values : []).every(Number.isFinite)) {
    throw new Error(`The file gives no finite scores for ${file.name}.`);
  }
  shown?.photo.close();
  shown = { photo, map: map && averaged(map) };
  list(scores);
  draw();
  say(file.name);
  byId("found").hidden = false;
}

// A map over its channels: the mean of each place.
function averaged({ height, width, channels, values }) {
  const means = new Float32Array(height * width);
  values.forEach((value, i) => {
    means[Math.floor(i / channels)] += value / channels;
  });
  return { height, width, values: means };
}

function list(scores) {
  const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  const are_shares = Math.min(...scores) >= 0 && Math.max(...scores) <= 1;
  const rows = order.slice(0, MOST_CLASSES).map((i) => {
    // A name is text, whatever is in it, and turns no other text around.
    const name = document.createElement("bdi");
    name.textContent = model.class_names === null ? String(i) : model.class_names[i];
    const row = document.createElement("li");
    const score = are_shares ? `${(100 * scores[i]).toFixed(1)}%` : scores[i].toPrecision(3);
    row.append(name, ` ${score}`);
    row.dataset.score = scores[i];
    return row;
  });
  byId("classes").replaceChildren(...rows);
}

function draw() {
  const { photo, map } = shown;
  const ratio = Math.min(1, LONGEST_SIDE / Math.max(photo.width, photo.height));
  const canvas = byId("photo");
  canvas.width = Math.max(1, Math.round(photo.width * ratio));
  canvas.height = Math.max(1, Math.round(photo.height * ratio));
  const context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  const has_places = map !== null && map.values.length > 1;
  byId("strength").hidden = !has_places;
  byId("attention").textContent = has_places ? told(map) : untold(map);
  if (!has_places) {
    return;
  }
  const low = Math.min(...map.values);
  const high = Math.max(...map.values);
  const small = new OffscreenCanvas(map.width, map.height);
  const image = new ImageData(map.width, map.height);
  map.values.forEach((value, i) => {
    image.data.set(heatColour(high > low ? (value - low) / (high - low) : 0), 4 * i);
  });
  small.getContext("2d").putImageData(image, 0, 0);
  context.globalAlpha = Number(byId("opacity").value);
  // Over what the network sees of the photograph.
  const { box } = fitted(photo, model.input.height, model.input.width, model.input.fit);
  context.drawImage(small, ...box.map((length) => length * ratio));
}

function told({ width, height, values }) {
  const place = values.indexOf(Math.max(...values));
  const [row, column] = [Math.floor(place / width) + 1, (place % width) + 1];
  return (
    `${model.attention_map} attends most to row ${row} of ${height}, ` +
    `column ${column} of ${width}: ${Math.max(...values).toPrecision(3)}, ` +
    `and least with ${Math.min(...values).toPrecision(3)}.`
  );
}

function untold(map) {
  return map === null
    ? "The file gives no attention map: export it with --attention-map LAYER."
    : `${model.attention_map} weighs channels, not places: there is nothing to draw.`;
}

async function take(files) {
  try {
    if (files.length !== 1) {
      throw new Error(`One photograph at a time. Received: ${files.length} files.`);
    }
    await look(files[0]);
  } catch (error) {
    say(error.message, true);
  }
}

byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) {
    take(event.target.files);
  }
  event.target.value = ""; // The same photograph may be chosen again.
});
byId("opacity").addEventListener("input", draw);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  // Else the browser leaves the page and opens the file.
  event.preventDefault();
  byId("drop").classList.remove("over");
  if (network) {
    take(event.dataTransfer.files);
  }
});

load().then(
  () => {
    byId("file").disabled = false;
    say("Ready. Photographs stay on this machine.");
  },
  (error) => say(`The model cannot be run: ${error.message}`, true),
);
