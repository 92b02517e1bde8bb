// Pointing at a chart shows the values of its lines there.
"use strict";
for (const frame of document.querySelectorAll("svg[data-plot]")) {
  const lines = JSON.parse(frame.dataset.plot).filter((line) => line.x);
  const holder = frame.closest(".plot");
  const tip = document.createElement("div");
  tip.className = "plot-tip";
  tip.hidden = true;
  holder.append(tip);
  const layer = document.createElementNS(frame.namespaceURI, "g");
  frame.append(layer);

  const draw = (name, attributes) => {
    const node = document.createElementNS(frame.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    layer.append(node);
  };
  const write = (text, style) => {
    const row = document.createElement("div");
    if (style) {
      const key = document.createElement("i");
      key.className = style;
      row.append(key);
    }
    row.append(text);
    tip.append(row);
  };
  const hide = () => {
    layer.replaceChildren();
    tip.hidden = true;
  };
  const nearest = (xs, x) => {
    let best = 0;
    xs.forEach((at, i) => {
      if (Math.abs(at - x) < Math.abs(xs[best] - x)) best = i;
    });
    return best;
  };

  holder.addEventListener("pointerleave", hide);
  holder.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    const x = (100 * (event.clientX - box.left)) / box.width;
    if (x < -3 || x > 103 || event.clientY < box.top - 8 || event.clientY > box.bottom + 8) return hide();
    hide();
    tip.replaceChildren();
    // The cursor stands at the point nearest to the pointer; the other lines say what they are nearest to it.
    const picks = lines.map((line) => nearest(line.x, x));
    const lead = lines.reduce((a, line, i) => (Math.abs(line.x[picks[i]] - x) < Math.abs(lines[a].x[picks[a]] - x) ? i : a), 0);
    const at = lines[lead].at[picks[lead]];
    const left = lines[lead].x[picks[lead]];
    write(at);
    draw("line", { class: "plot-cursor", x1: left + "%", x2: left + "%", y1: 0, y2: "100%" });
    lines.forEach((line, i) => {
      const n = picks[i];
      if (Math.abs(line.x[n] - left) > 4) return;
      draw("circle", { class: "plot-dot " + line.style, cx: line.x[n] + "%", cy: line.y[n] + "%", r: 4 });
      write(line.name + " " + line.value[n] + (line.at[n] === at ? "" : " at " + line.at[n]), line.style);
    });
    tip.hidden = false;
    const outer = holder.getBoundingClientRect();
    const room = outer.width - tip.offsetWidth;
    const wish = box.left - outer.left + (left * box.width) / 100 + 12;
    tip.style.left = Math.max(0, wish > room ? wish - tip.offsetWidth - 24 : wish) + "px";
    tip.style.top = Math.max(0, event.clientY - outer.top - tip.offsetHeight - 12) + "px";
  });
}
