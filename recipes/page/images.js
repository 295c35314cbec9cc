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

// Resizes bilinearly with antialiasing, by Pillow's rule: first the rows, then the columns.
export function resized({ height, width, planes }, newHeight, newWidth) {
  const across = weights(width, newWidth);
  const down = weights(height, newHeight);
  return {
    height: newHeight,
    width: newWidth,
    planes: planes.map((plane) => {
      const rows = new Float32Array(height * newWidth);
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < newWidth; x++) {
          rows[y * newWidth + x] = sum(across[x], (i) => plane[y * width + i]);
        }
      }
      const found = new Float32Array(newHeight * newWidth);
      for (let y = 0; y < newHeight; y++) {
        for (let x = 0; x < newWidth; x++) {
          found[y * newWidth + x] = sum(down[y], (i) => rows[i * newWidth + x]);
        }
      }
      return found;
    }),
  };
}

function sum({ first, parts }, value) {
  let total = 0;
  for (let i = 0; i < parts.length; i++) {
    total += parts[i] * value(first + i);
  }
  return total;
}

// Returns, for each new pixel, the first old one that it sees and the weight of each.
function weights(size, newSize) {
  const scale = size / newSize;
  const support = Math.max(scale, 1);
  return Array.from({ length: newSize }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(size, Math.trunc(centre + support + 0.5));
    const parts = [];
    for (let j = first; j < end; j++) {
      parts.push(Math.max(0, 1 - Math.abs((j - centre + 0.5) / support)));
    }
    const whole = parts.reduce((a, b) => a + b, 0);
    return { first, parts: parts.map((part) => part / whole) };
  });
}

// Returns the numbers that go into the file, in its range and, of integers, by its scale.
export function inputOf({ height, width, planes }, input) {
  const [low, high] = input.range;
  const count = height * width * planes.length;
  const values = input.scale === null ? new Float32Array(count) : new Uint8Array(count);
  planes.forEach((plane, channel) => {
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
