// A photograph as the numbers that a network takes, as keras_fmm.data.load_image makes them.

// Returns {height, width, planes}, of 0 to 255; what is transparent shows white behind it.
export function pixelsOf(photo, channels) {
  const { width, height } = photo;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(photo, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const planes = Array.from({ length: channels }, () => new Float32Array(width * height));
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    if (channels === 1) {
      // Pillow's grey.
      planes[0][i] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
    } else {
      planes[0][i] = red;
      planes[1][i] = green;
      planes[2][i] = blue;
    }
  }
  return { height, width, planes };
}

// Averages squares of pixels, as a decoder of JPEGs gives about where it is asked for a fraction of
// the size: keras_fmm.data.load_image asks, and keeps twice the size that it resizes to.
export function reduced(pixels, newHeight, newWidth) {
  const { height, width, planes } = pixels;
  const ratio = Math.min(height / (2 * newHeight), width / (2 * newWidth));
  const side = [8, 4, 2].find((factor) => ratio >= factor);
  if (side === undefined) {
    return pixels;
  }
  const [high, wide] = [Math.ceil(height / side), Math.ceil(width / side)];
  const means = planes.map((plane) => {
    const found = new Float32Array(high * wide);
    for (let y = 0; y < height; y++) {
      const down = Math.min(side, height - side * Math.floor(y / side));
      for (let x = 0; x < width; x++) {
        const across = Math.min(side, width - side * Math.floor(x / side));
        const place = Math.floor(y / side) * wide + Math.floor(x / side);
        found[place] += plane[y * width + x] / (down * across);
      }
    }
    return found;
  });
  return { height: high, width: wide, planes: means };
}

// Where an image that is cropped or padded to a size meets it: `box`, what is seen of the photograph
// (left, top, width, height; a part of it, or more on both sides), and in `inner` (left, top, width,
// height) of the new size where the photograph's own pixels lie.
export function fitted({ height, width }, newHeight, newWidth, fit) {
  const whole = { box: [0, 0, width, height], inner: [0, 0, newWidth, newHeight] };
  if (fit === "crop") {
    const wide = Math.max(1, Math.min(width, Math.floor((height * newWidth) / newHeight)));
    const high = Math.max(1, Math.min(height, Math.floor((width * newHeight) / newWidth)));
    const [left, top] = [Math.floor((width - wide) / 2), Math.floor((height - high) / 2)];
    return { ...whole, box: [left, top, wide, high] };
  }
  if (fit === "pad") {
    const ratio = Math.max(height / newHeight, width / newWidth);
    const wide = Math.max(1, Math.trunc(width / ratio));
    const high = Math.max(1, Math.trunc(height / ratio));
    const [left, top] = [Math.floor((newWidth - wide) / 2), Math.floor((newHeight - high) / 2)];
    return {
      box: [-left * ratio, -top * ratio, newWidth * ratio, newHeight * ratio],
      inner: [left, top, wide, high],
    };
  }
  return whole;
}

// Resizes bilinearly with antialiasing, by Pillow's rule: first the rows, then the columns. `whole`
// has the height and width of the photograph, of which `pixels` may be a reduced copy.
export function resized(pixels, newHeight, newWidth, fit, whole = pixels) {
  const { height, width } = pixels;
  const { box, inner } = fitted(fit === "pad" ? whole : pixels, newHeight, newWidth, fit);
  const [left, top, wide, high] = inner;
  const seen = fit === "crop" ? box : [0, 0, width, height];
  const across = weights(seen[0], seen[2], wide);
  const down = weights(seen[1], seen[3], high);
  const planes = pixels.planes.map((plane) => {
    const rows = new Float32Array(height * wide);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < wide; x++) {
        rows[y * wide + x] = sum(across[x], (i) => plane[y * width + i]);
      }
    }
    const found = new Float32Array(newHeight * newWidth);
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        found[(top + y) * newWidth + left + x] = sum(down[y], (i) => rows[i * wide + x]);
      }
    }
    return found;
  });
  return { height: newHeight, width: newWidth, planes };
}

function sum({ first, parts }, value) {
  let total = 0;
  for (let i = 0; i < parts.length; i++) {
    total += parts[i] * value(first + i);
  }
  return total;
}

// Returns, for each new pixel, the first old one that it sees and the weight of each; the old ones
// are `length` from `start` on.
function weights(start, length, newSize) {
  const scale = length / newSize;
  const support = Math.max(scale, 1);
  return Array.from({ length: newSize }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(start, Math.trunc(centre - support + 0.5));
    const end = Math.min(start + length, Math.trunc(centre + support + 0.5));
    const parts = [];
    for (let j = first; j < end; j++) {
      parts.push(Math.max(0, 1 - Math.abs((j - centre + 0.5) / support)));
    }
    const whole = parts.reduce((a, b) => a + b, 0);
    return { first, parts: parts.map((part) => part / whole) };
  });
}

// Returns the numbers that go into the file, in each channel's range and, of integers, by its scale.
export function inputOf({ height, width, planes }, input) {
  const count = height * width * planes.length;
  const values = input.scale === null ? new Float32Array(count) : new Uint8Array(count);
  planes.forEach((plane, channel) => {
    const [low, high] = input.ranges[channel];
    for (let i = 0; i < plane.length; i++) {
      const value = low + plane[i] * ((high - low) / 255);
      values[i * planes.length + channel] =
        input.scale === null
          ? value
          : Math.min(255, Math.max(0, rounded(value / input.scale) + input.zero_point));
    }
  });
  return values;
}

// Halves go to the even number, as NumPy has it.
function rounded(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

// From dark blue by red to yellow, opaque: what is attended to more is lighter.
export function heatColour(share) {
  return [255 * Math.min(1, 2 * share), 255 * Math.max(0, 2 * share - 1), 128 * (1 - share), 255];
}
