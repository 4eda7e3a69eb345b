/** Small videos shown large: whole multiples of their pixels, and the noise they come from. */

import { calm, make } from "./dom.js";

export const MOST = 512; // pixels of the screen to a side, for a video looked at by itself

/** Width and height of a video object, in its own pixels. */
export function size(video) {
  const [width, height] = String(video.size ?? "64x64").split("x").map(Number);
  return { width: width || 64, height: height || 64 };
}

/** The largest whole multiple of the size that fits, or what fits where even once is too much. */
export function fitted({ width, height }, room) {
  const scale = Math.min(room.width / width, room.height / height);
  const whole = scale >= 1 ? Math.floor(scale) : scale;
  return { width: Math.round(width * whole), height: Math.round(height * whole) };
}

/** Keep an element at the largest whole multiple that fits its parent: its width, and `most`, or its own fixed height. */
export function keepFitted(element, own, most = null) {
  const observer = new ResizeObserver(([{ contentRect }]) => {
    const room = { width: Math.min(contentRect.width, most ?? Infinity), height: most ?? contentRect.height };
    const { width, height } = fitted(own, room);
    element.style.width = `${width}px`;
    element.style.height = `${height}px`;
    element.classList.toggle("shrunk", width < own.width);
  });
  observer.observe(element.parentElement);
  return () => observer.disconnect();
}

/** The first frame of a moving picture. */
export function still(source, label = "") {
  const canvas = make("canvas", { role: "img", "aria-label": label || null, "aria-hidden": label ? null : "true" });
  const image = new Image();
  image.onload = () => {
    Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight });
    canvas.getContext("2d").drawImage(image, 0, 0);
  };
  image.src = source;
  return canvas;
}

/** A canvas of grey noise that moves, unless motion is unwanted; returns how to stop it. */
export function noise(canvas) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const draw = () => {
    for (let place = 0; place < image.data.length; place += 4) {
      const grey = 128 + 46 * (Math.random() + Math.random() + Math.random() - 1.5);
      image.data.set([grey, grey, grey, 255], place);
    }
    context.putImageData(image, 0, 0);
  };
  draw();
  const timer = calm() ? 0 : setInterval(draw, 120);
  return () => clearInterval(timer);
}
