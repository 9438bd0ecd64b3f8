"""Widgets: they work without a kernel by what is prerendered and linked, and with one at once."""

import io
import time

import ipywidgets as widgets
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from ipywidgets.widgets.widget_link import Link
from PIL import Image as Picture

from drlib.viewer import quantizer, slice_browser, slices
from drlib.viewer.plane import nearest, to_pixels
from drlib.viewer.player import Frame, make_slider, show_when_alive


@pytest.fixture(scope="module")
def widget():
    return quantizer.quantizer_widget(codewords=(4, 12))


def descendants(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from descendants(child)


def find(widget, kind, **traits):
    return [w for w in descendants(widget) if type(w) is kind and all(getattr(w, name) == value for name, value in traits.items())]


def pixels(png):
    return np.asarray(Picture.open(io.BytesIO(png)).convert("RGB")).astype(int)


def patient(slices_=9, size=32):
    images = np.full((slices_, 4, size, size), -3.0, np.float16)
    images[2:7, :, 8:24, 8:24] = 0.0
    labels = np.zeros((slices_, size, size), np.uint8)
    labels[4, 10:14, 18:22] = 3  # high column: patient's left
    return images, labels


def test_every_step_of_every_choice_is_prerendered(widget):
    stacks = [w for w in find(widget, widgets.Stack) if isinstance(w.children[0], Frame)]
    assert len(stacks) == len(quantizer.STARTS) * 2
    for stack in stacks:
        frames = {image.value for image in stack.children}
        assert len(stack.children) == len(quantizer.STEPS) and len(frames) > 1
        assert all("data:image/png;base64,iVBORw0KGgo" in frame and 'alt="Latents' in frame for frame in frames)


def test_the_slider_turns_over_every_stack_in_the_browser(widget):
    slider = find(widget, widgets.IntSlider, description="step")[0]
    links = [w for w in _instances.values() if isinstance(w, Link)]
    targets = {link.target[0].model_id for link in links if link.source[0] is slider}
    assert targets >= {w.model_id for w in find(widget, widgets.Stack) if isinstance(w.children[0], Frame)}


def test_the_bench_is_hidden_until_a_kernel_hears_a_slider(widget):
    bench = widget.children[-1]
    assert bench.layout.display == "none"
    find(widget, widgets.IntSlider, description="step")[0].value = 2
    assert bench.layout.display == ""


def test_the_bench_answers_step_train_and_restart():
    bench = quantizer.live_bench()
    image, buttons = find(bench, Frame)[0], {b.description: b for b in find(bench, widgets.Button)}
    seen = [image.value]
    for name in ("Step", "Train", "Restart"):
        buttons[name].click()
        seen.append(image.value)
    assert len(set(seen[:3])) == 3
    assert seen[3] == seen[0]


def test_the_number_of_codewords_changes_the_picture():
    bench = quantizer.live_bench()
    image, before = find(bench, Frame)[0], find(bench, Frame)[0].value
    find(bench, widgets.IntSlider, description="codewords")[0].value = 30
    assert image.value != before


def test_an_update_takes_less_than_three_tenths_of_a_second():
    bench = quantizer.make_bench(64)
    quantizer.draw_bench(bench)
    start = time.process_time()
    for _ in range(3):
        bench.step(10)
        quantizer.draw_bench(bench)
    assert (time.process_time() - start) / 3 < 0.3


def test_corrected_averages_keep_codewords_near_the_latents_and_the_authors_do_not():
    reach = {}
    for start in quantizer.STARTS:
        bench = quantizer.make_bench(32, start=start)
        bench.step()
        reach[start] = np.abs(bench.codebook).max()
    assert reach["moving average, corrected"] < 5 < reach["as the authors' code"]


def test_same_seed_same_frames():
    start = next(iter(quantizer.STARTS))
    assert quantizer.make_frames(4, start, seed=3) == quantizer.make_frames(4, start, seed=3)


def test_the_picture_uses_the_nearest_codeword():
    codebook = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert nearest(np.array([[0.1, 0.2], [0.9, 0.7]]), codebook).tolist() == [0, 1]


def test_the_second_dimension_points_upwards():
    low, high = to_pixels(np.array([[0.0, -1.0], [0.0, 1.0]]), 2.0)
    assert high[1] < low[1]


def test_the_browser_keeps_the_slice_with_most_tumour_and_opens_there():
    images, labels = patient()
    chosen = slices.choose_slices(images, labels, 3)
    assert 4 in chosen and chosen.min() >= 2 and chosen.max() <= 6
    widget = slice_browser(images, labels, labels, most_frames=3)
    stack = find(widget, widgets.Stack)[0]
    assert chosen[stack.selected_index] == 4


def test_the_browser_says_that_predictions_are_for_research_only_where_it_shows_any():
    images, labels = patient()
    shown = {prediction is not None: slice_browser(images, labels, prediction, most_frames=3) for prediction in (None, labels)}
    says = {predicted: "research only" in " ".join(w.value for w in find(widget, widgets.HTML)) for predicted, widget in shown.items()}
    assert says == {False: False, True: True}


def test_tumour_at_the_patients_left_is_seen_at_the_right_of_the_tile():
    images, labels = patient()
    shown = pixels(slices.to_png(slices.draw_slice(images, labels, None, 4)))
    truth = shown[slices.TILE + 2 : 2 * slices.TILE, slices.TILE + 2 : 2 * slices.TILE]  # fifth tile: second row, second column
    yellow = (truth[..., 0] - truth[..., 2]) > 60
    assert np.argwhere(yellow)[:, 1].mean() > 0.55 * slices.TILE


def test_opacity_zero_shows_the_image_alone():
    images, labels = patient()
    transparent = slices.draw_slice(images, labels, None, 4, opacity=0.0)
    assert transparent == slices.draw_slice(images, np.zeros_like(labels), None, 4)


def test_a_patient_without_truth_can_be_browsed():
    images, _ = patient()
    assert find(slice_browser(images), widgets.Stack)[0].selected_index is not None


def test_the_browsers_live_part_redraws_every_slice():
    images, labels = patient()
    live = slices._live_browser(images, labels, None, 4)
    image, before = find(live, Frame)[0], find(live, Frame)[0].value
    find(live, widgets.IntSlider)[0].value = 8
    assert image.value != before


def test_a_slider_ends_at_its_last_frame():
    slider = make_slider(5, "frame", shown=2)
    assert (slider.min, slider.max, slider.value) == (0, 4, 2)


def test_no_widget_is_used_that_fails_in_a_static_page(widget):
    kinds = {type(w) for w in descendants(widget)} | {type(w) for w in descendants(slice_browser(*patient()))}
    assert not kinds & {widgets.Play, widgets.Image}


def test_what_needs_a_kernel_appears_once():
    box, signal, calls = widgets.VBox(), widgets.IntSlider(), []
    show_when_alive(box, signal, on_first=lambda: calls.append(1))
    signal.value, signal.value = 1, 2
    assert box.layout.display == "" and calls == [1]
